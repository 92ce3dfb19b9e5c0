//! The proposed tables as structs of Rust.

use lockstep_declared::{Proposal, Structs, rust_comment};
use lockstep_postgres::{Relation, Source};

use super::{Written, declaration_of};

const HEAD: &str = "\
// Made by `init --rust`. Every line may be changed; docs/derive.md says what each word means. Beside
// lockstep-migrate as `lockstep` it names the crates chrono, uuid and rust_decimal, as far as there are
// such columns.
";

/// Writes the proposals as structs. Why a table has none is told in its place.
pub(super) async fn of(source: &Source, proposals: &[Proposal]) -> anyhow::Result<Written> {
    let mut structs = Structs::default();
    let (mut text, mut written, mut left) = (HEAD.to_owned(), Vec::new(), Vec::new());
    for proposal in proposals {
        text.push('\n');
        match one(source, proposal, &mut structs).await? {
            Ok(said) => {
                text += &said;
                written.push(proposal.name.clone());
            }
            Err(why) => {
                for line in why {
                    text += &rust_comment(&line);
                }
                left.push(proposal.name.clone());
            }
        }
    }
    Ok(Written { text, written, left })
}

async fn one(
    source: &Source,
    proposal: &Proposal,
    structs: &mut Structs,
) -> anyhow::Result<Result<String, Vec<String>>> {
    let comments =
        || proposal.text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim().to_owned());
    if !proposal.movable {
        return Ok(Err(comments().collect()));
    }
    let declaration = declaration_of(proposal).map_err(anyhow::Error::msg)?;
    let relation: Relation = declaration.source.as_deref().unwrap_or(&proposal.name).parse()?;
    let Some(table) = source.catalog_table(&relation).await? else {
        return Ok(Err(vec![format!("{relation} is gone.")]));
    };
    let labels = source.labels(table.oid).await?;
    let name = &proposal.name;
    Ok(match structs.of(name, &declaration, &table, &labels) {
        Ok(said) => {
            let decide = comments().filter(|line| line.starts_with("DECIDE"));
            let table = format!("MigrationOptions::new(source, target).table(…, \"{relation}\", \"{name}\")");
            Ok(decide.chain([table]).map(|line| rust_comment(&line)).collect::<String>() + &said)
        }
        Err(why) => {
            let mut said = vec![format!(
                "{relation} has no struct; declare it in lockstep.toml, as `init` without --rust does:"
            )];
            said.extend(why.into_iter().map(|why| format!("- {why}")));
            Err(said)
        }
    })
}
