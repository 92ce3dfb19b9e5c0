//! Tables alone may stand in a configuration that was made of a schema.

use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::Dict;

/// Requires that the text sets the source's URL and declares proposed tables, and nothing else. Names of the
/// schema are in it, and another role may have chosen them: a section that none of us wrote may name a
/// command that is run.
///
/// # Errors
/// The section that is foreign to it.
pub(crate) fn require_tables_alone(text: &str, is_proposed: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let read: Dict = Figment::from(Toml::string(text)).extract().map_err(|_| {
        anyhow::anyhow!(
            "the proposal does not read as a configuration, so nothing was written; name the tables"
        )
    })?;
    let foreign = read.iter().find(|(section, value)| {
        let keys = value.as_dict();
        !match section.as_str() {
            "source" => keys.is_some_and(|keys| keys.keys().all(|key| key == "url")),
            "target" => keys.is_some_and(Dict::is_empty),
            "tables" => keys.is_some_and(|keys| keys.keys().all(|name| is_proposed(name))),
            _ => false,
        }
    });
    match foreign {
        None => Ok(()),
        Some((section, _)) => Err(anyhow::anyhow!(
            "a name of the schema would become the section `{section}` of the configuration, so nothing was \
             written; name the tables"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_section_that_is_no_table_of_ours_is_not_written() {
        let right = "[source]\nurl = \"u\"\n[target]\n[tables.x]\nsource = \"public.x\"\n";
        require_tables_alone(right, |name| name == "x").expect("it is what was proposed");
        for wrong in [
            "[cleanup]\nbackup_check = \"x\"\n",
            "[tables.y]\nsource = \"public.y\"\n",
            "[source]\nurl = \"u\"\npassword_command = \"x\"\n",
            "[target]\nendpoint_url = \"http://x\"\n",
            "source = 1\n",
            "= \n",
        ] {
            assert!(require_tables_alone(wrong, |name| name == "x").is_err(), "{wrong}");
        }
    }
}
