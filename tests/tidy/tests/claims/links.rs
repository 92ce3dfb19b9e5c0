//! Documents lead somewhere.

use std::path::{Component, Path, PathBuf};

use lockstep_tidy::{files, markdown};

#[test]
fn every_relative_link_and_anchor_in_the_documents_resolves() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for document in files::documents() {
        for (line, link) in markdown::links(&files::read(&document)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            if let Err(why) = resolve(&document, &link) {
                broken.push(format!("{document}:{line}: {link}: {why}"));
            }
        }
    }
    assert!(seen > 30, "the links were found: {seen}");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_document_is_in_the_summary_of_the_site_once() {
    let summary = files::read("docs/SUMMARY.md");
    let listed: Vec<String> = markdown::links(&summary).into_iter().map(|(_, link)| link).collect();
    for document in files::below("docs", "md") {
        let name = document.trim_start_matches("docs/");
        if name == "SUMMARY.md" {
            continue;
        }
        let times = listed.iter().filter(|link| *link == name).count();
        assert_eq!(times, 1, "{document} stands {times} times in docs/SUMMARY.md");
    }
}

#[test]
fn every_document_that_a_page_outside_the_site_links_to_has_a_redirect() {
    let book = files::read("book.toml");
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for (_, link) in markdown::links(&files::read(page)) {
            let path = link.split('#').next().unwrap_or_default();
            if let Some(name) = path.strip_prefix("docs/").and_then(|name| name.strip_suffix(".md")) {
                let line = format!("\"/docs/{name}.html\" = \"../{name}.html\"");
                assert!(
                    book.contains(&line),
                    "book.toml: {page} is shown in the site and links to {path}: add {line}"
                );
            }
        }
    }
}

fn resolve(document: &str, link: &str) -> Result<(), String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let file = if path.is_empty() { document.to_owned() } else { joined(document, path) };
    let target = files::root().join(&file);
    if !target.exists() {
        return Err("no such file".to_owned());
    }
    if anchor.is_empty() || !file.ends_with(".md") {
        return Ok(());
    }
    let anchors = markdown::anchors(&files::read(&file));
    if anchors.iter().any(|one| one == anchor) {
        Ok(())
    } else {
        Err(format!("no such heading; there are {anchors:?}"))
    }
}

/// `path` as seen from the folder of `document`, without `..`.
fn joined(document: &str, path: &str) -> String {
    let folder = Path::new(document).parent().unwrap_or(Path::new(""));
    let mut whole = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole.to_string_lossy().into_owned()
}
