//! Imports that close a circle.

use std::collections::BTreeSet;

use crate::imports::Graph;

/// Every import `a -> b` of the graph such that `b` reaches `a` again, sorted.
pub fn closing(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (from, names) in graph {
        for to in names {
            if reaches(graph, to, from) {
                found.push(format!("{from} -> {to}"));
            }
        }
    }
    found
}

fn reaches(graph: &Graph, from: &str, wanted: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = open.pop() {
        if module == wanted {
            return true;
        }
        if seen.insert(module.clone()) {
            open.extend(graph.get(&module).into_iter().flatten().cloned());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_imports_that_lead_back_are_found() {
        let graph: Graph = [("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["b", "d"]), ("d", vec![])]
            .into_iter()
            .map(|(from, to)| (from.to_owned(), to.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(closing(&graph), ["b -> c", "c -> b"]);
    }
}
