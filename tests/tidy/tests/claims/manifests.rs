//! `ops/kubernetes` builds, and is what the API takes: by this repository's own reader wherever tests are
//! run, and by kubectl where there is one. Deliberate mistakes (`tests/tidy/schemas/mistakes.txt`) are
//! refused, with the path of the field.

use std::collections::BTreeMap;
use std::process::Command;

use lockstep_tidy::kubernetes::{Reading, Schema, Secrets, build, findings};
use lockstep_tidy::{files, markdown, yaml};
use serde_json::{Value, json};

pub(crate) const DOCUMENT: &str = "docs/kubernetes.md";
/// Folders of `ops/kubernetes`, each a kustomization.
const FOLDERS: [&str; 3] = ["base", "backfill", "workers"];

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(files::root().join(path)).ok()
}

/// Returns what a folder makes, by this repository's own reader: it is there wherever tests are run.
pub(crate) fn built(folder: &str) -> Vec<Value> {
    build(&format!("ops/kubernetes/{folder}"), &read).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns what `kubectl kustomize` makes of a folder; nothing where kubectl is missing.
fn by_kubectl(folder: &str) -> Option<Vec<Value>> {
    let path = files::root().join("ops/kubernetes").join(folder);
    let output = Command::new("kubectl").arg("kustomize").arg(&path).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl kustomize {}: {said}", path.display());
    let text = String::from_utf8(output.stdout).expect("YAML is text");
    Some(yaml::documents(&text).unwrap_or_else(|why| panic!("kubectl kustomize {folder}: {why}")))
}

/// The one object of a kind.
pub(crate) fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "there is one {kind}: {found:#?}");
    found[0]
}

/// Secrets that the document has its reader make, with their keys.
pub(crate) fn secrets() -> Secrets {
    let mut found = BTreeMap::new();
    for command in markdown::commands(&files::read(DOCUMENT), "kubectl ") {
        let Some((_, rest)) = command.split_once(" create secret generic ") else { continue };
        let mut words = rest.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let keys = words.filter_map(|word| {
            let file = word.strip_prefix("--from-file=").map(|path| path.rsplit('/').next().unwrap_or(path));
            let said = word.strip_prefix("--from-literal=").or(file)?;
            said.split('=').next().map(str::to_owned)
        });
        found.insert(name, keys.collect());
    }
    found
}

/// Everything that is applied together: the base, and workers of both kinds.
fn together(read: Reading<'_>) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for folder in FOLDERS {
        objects.extend(build(&format!("ops/kubernetes/{folder}"), read)?);
    }
    Ok(objects)
}

/// Blocks of the document that are YAML.
pub(crate) fn shown() -> Vec<Value> {
    let text = files::read(DOCUMENT);
    let lines: Vec<&str> = text.lines().collect();
    let blocks = markdown::fences(&text).into_iter().filter(|(_, words)| *words == "yaml").map(|(at, _)| {
        let block: Vec<&str> = lines[at..].iter().take_while(|line| **line != "```").copied().collect();
        yaml::documents(&(block.join("\n") + "\n")).unwrap_or_else(|why| panic!("{DOCUMENT}:{at}: {why}"))
    });
    blocks.flatten().collect()
}

#[test]
fn what_is_applied_together_is_what_the_api_takes() {
    assert!(secrets().len() > 1, "the document has its reader make secrets: {:?}", secrets());
    let ours = together(&read).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(findings(&ours, &secrets()), Vec::<String>::new());
    let theirs: Option<Vec<Vec<Value>>> = FOLDERS.into_iter().map(by_kubectl).collect();
    if let Some(theirs) = theirs {
        assert_eq!(findings(&theirs.concat(), &secrets()), Vec::<String>::new());
    }
}

/// 1. The two make different things of a folder. 2. What the other tests hold is not what is applied.
#[test]
fn kubectl_makes_the_same_of_each_folder() {
    for folder in FOLDERS {
        let Some(theirs) = by_kubectl(folder) else {
            eprintln!("kubectl cannot be started: {folder} is built and checked by our own reader alone");
            return;
        };
        let ours = built(folder);
        // It puts a hash behind the names of what it generates, and in what refers to it.
        let mut text = serde_json::to_string(&theirs).expect("JSON");
        for map in ours.iter().filter(|object| object["kind"] == "ConfigMap") {
            let name = map["metadata"]["name"].as_str().expect("a name");
            let hashed = theirs.iter().filter_map(|object| object["metadata"]["name"].as_str());
            let mut hashed =
                hashed.filter(|other| other.strip_prefix(name).is_some_and(|hash| hash.starts_with('-')));
            text = text.replace(&format!("\"{}\"", hashed.next().expect(name)), &format!("\"{name}\""));
        }
        let theirs: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let sorted = |objects: Vec<Value>| {
            let key = |object: &Value| (object["kind"].to_string(), object["metadata"]["name"].to_string());
            objects.into_iter().map(|object| (key(&object), object)).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(sorted(ours), sorted(theirs), "{folder}");
    }
}

/// 1. A reader copies the overlay of the document. 2. A word of it is not kubectl's, or the manifests have
/// moved. 3. Nothing is applied.
#[test]
fn the_overlay_and_the_objects_that_the_document_shows_are_what_the_api_takes() {
    let document = files::read(DOCUMENT);
    let (_, after) =
        document.split_once("```yaml\n# overlays/production/kustomization.yaml\n").expect("an overlay");
    let overlay = after.split("```").next().unwrap_or_default();
    let removal = "{ op: remove, path: /spec/egress/2/to/1 }";
    assert!(document.contains(&format!("`{removal}`")), "it says how to take the instance's metadata out");
    let removal = format!("  - target: {{ kind: NetworkPolicy }}\n    patch: |\n      - {removal}\n");
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    let of_reader = |path: &str| match path {
        // Without these two lines kubectl takes them as said.
        "overlays/production/kustomization.yaml" => Some(format!("{head}{overlay}{removal}")),
        "overlays/production/lockstep.toml" => Some("[target]\nregion = \"eu-west-1\"\n".to_owned()),
        _ => read(path),
    };
    let objects = build("overlays/production", &of_reader).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(findings(&objects, &secrets()), Vec::<String>::new());
    let container = &one(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "your.registry/lockstep:0.1.0");
    assert_eq!(one(&objects, "ConfigMap")["data"]["lockstep.toml"], "[target]\nregion = \"eu-west-1\"\n");
    let accounts = objects.iter().filter(|object| object["kind"] == "ServiceAccount");
    let roles: Vec<&Value> =
        accounts.map(|account| &account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]).collect();
    assert_eq!(roles, [&json!("arn:aws:iam::123456789012:role/lockstep"); 2]);
    let credentials = &one(&objects, "NetworkPolicy")["spec"]["egress"][2]["to"];
    assert_eq!(*credentials, json!([{ "ipBlock": { "cidr": "169.254.170.23/32" } }]));

    let scaled = shown().into_iter().filter(|object| object["kind"] == "ScaledObject").collect::<Vec<_>>();
    assert_eq!(scaled.len(), 1, "the document has an object of KEDA");
    let mut found = Vec::new();
    Schema::ours().check(&scaled[0], &mut found);
    assert_eq!(found, Vec::<String>::new());
    let target = &scaled[0]["spec"]["scaleTargetRef"]["name"];
    assert_eq!(*target, one(&built("workers"), "Deployment")["metadata"]["name"]);
}

/// A mistake, as a line of the list says it.
struct Mistake {
    path: String,
    stands: String,
    written: String,
    /// Beginning of what has to be said of it.
    begins: String,
}

fn mistakes() -> Vec<Mistake> {
    let text = files::read("tests/tidy/schemas/mistakes.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let whole = |part: &str| part.replace("\\n", "\n").replace("\\s", " ").replace("\\t", "\t");
    lines
        .map(|line| {
            let parts: Vec<String> = line.split(" | ").map(whole).collect();
            let [file, stands, written, begins] = parts.as_slice() else { panic!("{line}: has four parts") };
            let path = format!("ops/kubernetes/{file}");
            Mistake { path, stands: stands.clone(), written: written.clone(), begins: begins.clone() }
        })
        .collect()
}

/// Returns what is said of the manifests with one mistake in them.
fn said(mistake: &Mistake) -> Vec<String> {
    let Mistake { path, stands, written, .. } = mistake;
    let text = files::read(path);
    assert!(text.contains(stands), "{path} has no `{stands}`: the mistake cannot be made");
    let wrong = text.replace(stands, written);
    let of_mistake = |asked: &str| if asked == path { Some(wrong.clone()) } else { read(asked) };
    match together(&of_mistake) {
        Ok(objects) => findings(&objects, &secrets()),
        Err(why) => vec![why],
    }
}

#[test]
fn every_mistake_in_a_manifest_is_refused_by_the_path_of_its_field() {
    let mistakes = mistakes();
    assert!(mistakes.len() >= 50, "the list was read: {}", mistakes.len());
    for mistake in &mistakes {
        let said = said(mistake);
        let Mistake { path, written, begins, .. } = mistake;
        let is_told = said.iter().any(|finding| finding.starts_with(begins));
        assert!(is_told, "{path} with `{written}`: nothing begins with `{begins}`:\n{said:#?}");
    }
}
