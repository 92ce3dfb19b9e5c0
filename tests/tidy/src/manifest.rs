//! Reader of a `Cargo.toml` of this workspace, line by line: its files are written one entry a line.

use crate::files;

/// A package of the workspace.
#[derive(Clone, Debug)]
pub struct Package {
    /// The folder that it is in, from the root.
    pub folder: String,
    /// Name of the package.
    pub name: String,
    /// The packages of this workspace that it needs, without those of its tests.
    pub needs: Vec<String>,
}

/// Every package below `crates`, `examples` and `tests`, and `xtask`.
pub fn packages() -> Vec<Package> {
    let folders = ["crates", "examples", "tests", "xtask"];
    let manifests = folders.iter().flat_map(|folder| files::below(folder, "toml"));
    manifests.filter_map(|path| path.strip_suffix("/Cargo.toml").map(package)).collect()
}

fn package(folder: &str) -> Package {
    let text = files::read(&format!("{folder}/Cargo.toml"));
    let (mut section, mut name, mut needs) = (String::new(), String::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if section == "package" && name.is_empty() && line.starts_with("name") {
            name = line.split('"').nth(1).unwrap_or_default().to_owned();
        } else if section == "dependencies" || section.ends_with(".dependencies") {
            let key = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if key == "xtask" || key == "lockstep" || key.starts_with("lockstep-") {
                needs.push(key.to_owned());
            }
        }
    }
    Package { folder: folder.to_owned(), name, needs }
}
