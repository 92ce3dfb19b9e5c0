//! Builds what a `kustomization.yaml` says, as far as the schema knows such a file: everywhere, also where
//! there is no kubectl. Where there is one, a test holds both results against each other.
//!
//! A generated ConfigMap has no hash in its name here. What refers to it has none either.

use serde_json::{Map, Value, json};

use super::Schema;
use crate::yaml;

/// Returns the text of a file by its path from the root; nothing where there is none.
pub type Reading<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns the objects that a folder's kustomization makes.
///
/// # Errors
/// For a file that is not there or does not read, and for a kustomization that the schema does not know.
pub fn build(folder: &str, read: Reading<'_>) -> Result<Vec<Value>, String> {
    let path = format!("{folder}/kustomization.yaml");
    let files = documents(&path, read)?;
    let [file] = files.as_slice() else { return Err(format!("{path}: has to be one document")) };
    let mut found = Vec::new();
    // It is given a name, as an object has one.
    Schema::ours().check(file, &mut found);
    if !found.is_empty() {
        return Err(format!("{path}: {}", found.join("; ")));
    }
    let mut objects = Vec::new();
    for resource in texts(&file["resources"]) {
        let at = joined(folder, resource);
        objects.extend(if at.ends_with(".yaml") { documents(&at, read)? } else { build(&at, read)? });
    }
    for one in list(&file["configMapGenerator"]) {
        generate(one, folder, read, &mut objects)?;
    }
    for one in list(&file["patches"]) {
        patch(one, &mut objects).map_err(|why| format!("{path}: patches: {why}"))?;
    }
    for object in &mut objects {
        if let Some(namespace) = file["namespace"].as_str() {
            let is_it = object["kind"] == "Namespace";
            object["metadata"][if is_it { "name" } else { "namespace" }] = json!(namespace);
        }
        for label in list(&file["labels"]) {
            add_labels(&mut object["metadata"], &label["pairs"]);
            if label["includeTemplates"] == true && object["spec"]["template"].is_object() {
                add_labels(&mut object["spec"]["template"]["metadata"], &label["pairs"]);
            }
        }
        for image in list(&file["images"]) {
            name_image(object, image);
        }
    }
    Ok(objects)
}

fn documents(path: &str, read: Reading<'_>) -> Result<Vec<Value>, String> {
    let text = read(path).ok_or_else(|| format!("{path}: is not there"))?;
    yaml::documents(&text).map_err(|why| format!("{path}: {why}"))
}

fn generate(one: &Value, folder: &str, read: Reading<'_>, objects: &mut Vec<Value>) -> Result<(), String> {
    let mut data = Map::new();
    for file in texts(&one["files"]) {
        let (key, path) = file.split_once('=').unwrap_or((file.rsplit('/').next().unwrap_or(file), file));
        let path = joined(folder, path);
        let text = read(&path).ok_or_else(|| format!("{path}: is not there"))?;
        data.insert(key.to_owned(), Value::from(text));
    }
    let is_same = |object: &&mut Value| {
        object["kind"] == "ConfigMap"
            && object["metadata"]["name"] == one["name"]
            && object["metadata"].get("namespace") == one.get("namespace")
    };
    let there = objects.iter_mut().find(is_same);
    match (one["behavior"].as_str().unwrap_or("create"), there) {
        ("replace", Some(there)) => there["data"] = Value::Object(data),
        ("create", None) => {
            let mut metadata = json!({ "name": one["name"] });
            if let Some(namespace) = one.get("namespace") {
                metadata["namespace"] = namespace.clone();
            }
            objects
                .push(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data }));
        }
        (behavior, _) => {
            return Err(format!("{folder}: configMapGenerator: {} cannot {behavior}", one["name"]));
        }
    }
    Ok(())
}

/// Applies operations of JSON Patch to each object that the target names.
fn patch(one: &Value, objects: &mut [Value]) -> Result<(), String> {
    let read = yaml::documents(one["patch"].as_str().unwrap_or_default())?;
    let operations = read.first().and_then(Value::as_array).ok_or("is no list of operations")?;
    let target = &one["target"];
    let is_meant = |object: &&mut Value| {
        object["kind"] == target["kind"]
            && target.get("name").is_none_or(|name| object["metadata"]["name"] == *name)
    };
    let mut meant = 0;
    for object in objects.iter_mut().filter(is_meant) {
        meant += 1;
        for operation in operations {
            apply(operation, object).ok_or_else(|| format!("{operation} cannot be applied"))?;
        }
    }
    if meant == 0 { Err(format!("{target} is not there")) } else { Ok(()) }
}

fn apply(operation: &Value, object: &mut Value) -> Option<()> {
    let (before, last) = operation["path"].as_str()?.rsplit_once('/')?;
    let last = last.replace("~1", "/").replace("~0", "~");
    let within = object.pointer_mut(before)?;
    let op = operation["op"].as_str()?;
    if let Some(list) = within.as_array_mut() {
        let at = last.parse().ok().filter(|at| *at < list.len())?;
        match op {
            "add" => list.insert(at, operation.get("value")?.clone()),
            "replace" => list[at] = operation.get("value")?.clone(),
            "remove" => drop(list.remove(at)),
            _ => return None,
        }
        return Some(());
    }
    let map = within.as_object_mut()?;
    match op {
        "add" => drop(map.insert(last, operation.get("value")?.clone())),
        "replace" => *map.get_mut(&last)? = operation.get("value")?.clone(),
        "remove" => drop(map.remove(&last)?),
        _ => return None,
    }
    Some(())
}

fn add_labels(metadata: &mut Value, pairs: &Value) {
    for (key, value) in pairs.as_object().into_iter().flatten() {
        metadata["labels"][key] = value.clone();
    }
}

fn name_image(object: &mut Value, image: &Value) {
    let Some(pod) = object.pointer_mut("/spec/template/spec") else { return };
    for part in ["initContainers", "containers"] {
        for container in pod.get_mut(part).and_then(Value::as_array_mut).into_iter().flatten() {
            let said = container["image"].as_str().unwrap_or_default();
            let (name, tag) = said.rsplit_once(':').unwrap_or((said, ""));
            if image["name"] != *name {
                continue;
            }
            let name = image["newName"].as_str().unwrap_or(name);
            let tag = image["newTag"].as_str().unwrap_or(tag);
            container["image"] =
                json!(if tag.is_empty() { name.to_owned() } else { format!("{name}:{tag}") });
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).filter_map(Value::as_str)
}

/// A path below a folder, without its `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => parts.truncate(parts.len().saturating_sub(1)),
            "." | "" => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
