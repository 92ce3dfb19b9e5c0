//! `init`: a configuration for tables that are there, proposed from their schema.

mod rust;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lockstep_coordinator::first_of;
use lockstep_core::Fields;
use lockstep_declared::{Declaration, Proposal, comment, propose, resolve};
use lockstep_postgres::{CatalogTable, Completed, Relation, Source, TableBinding, hides};
use serde_json::json;

use crate::config::{Config, FILE, Inputs, Registry, require_tables_alone};
use crate::exit::{Exit, Failure};
use crate::files::write_private;
use crate::help;
use crate::report::{print, print_json};

/// Proposes a configuration for your own tables
///
/// Reads tables, keys, indexes, foreign keys and statistics of a PostgreSQL, and a few rows to measure items,
/// and writes a lockstep.toml that declares each table: its keys and indexes in DynamoDB with the reasons,
/// what it costs to write, what cannot move or needs a decision, and what nothing checks any more once
/// DynamoDB is the truth. For ordinary schemas `migrate` works on it as it is. It changes nothing in the
/// database, and overwrites no file.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask init --source postgres://app@db/shop                     every table of the database\n  \
       cargo xtask init --source postgres://app@db/shop --table shop.orders --table shop.items\n  \
       cargo xtask init --source postgres://app@db/shop --out -             to stdout\n  \
       cargo xtask init --source postgres://app@db/shop --rust              structs of Rust, to stdout"
))]
pub struct Args {
    /// The database, postgres://user:password@host/database [default: source.url of the configuration]
    #[arg(long, value_name = "URL")]
    pub source: Option<String>,
    /// A table, `table` or `schema.table`; may be given several times [default: every table]
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// The file to write; - for stdout [default: lockstep.toml, and stdout with --rust]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the tables as structs of Rust with #[derive(lockstep::Table)], for applications with a store
    /// handle
    #[arg(long)]
    pub rust: bool,
}

/// Rows that are looked at in each of three parts of a table.
const SAMPLED: usize = 100;
/// Tables that are named; the file has all of them.
const NAMED: usize = 12;

/// Runs it. `inputs` are the file and the profile of the global flags, for a source that is not given, and
/// `registry` the tables that the program knows without a declaration.
///
/// # Errors
/// When the source does not answer, has no such table, or the file is there already.
pub async fn run(args: Args, registry: &Registry, inputs: &Inputs, json: bool) -> anyhow::Result<Exit> {
    let out = args.out.unwrap_or_else(|| PathBuf::from(if args.rust { "-" } else { FILE }));
    // A link that leads nowhere is there as well: another user may have made it.
    if !is_stdout(&out) && out.symlink_metadata().is_ok() {
        let message =
            format!("{} is there already; name another file with --out, or remove it", out.display());
        return Err(Failure::usage(message));
    }
    let mut config = if args.source.is_some() { Config::default() } else { Config::load(registry, inputs)? };
    if let Some(url) = &args.source {
        config.source.url = Some(serde_json::from_value(url.as_str().into()).context("reading --source")?);
    }
    let options =
        config.source_options().ok_or_else(|| Failure::usage("name the database: --source postgres://…"))?;
    // With --source no file needs to be there, and one that is wrong is none of its business.
    let of_file = Config::load(registry, inputs).ok().filter(|_| args.source.is_some());
    let target = target_is_set_by(of_file.as_ref().unwrap_or(&config), |name| std::env::var(name).ok());
    let source = Source::connect_as_operator(&options).await?;
    let proposals = proposals(&source, &args.table).await;
    let structs = match &proposals {
        Ok(proposals) if args.rust => Some(rust::of(&source, proposals).await),
        _ => None,
    };
    // A role that may not read it has not completed one here either.
    // One that finds a schema of another role there reads nothing of it: views would run with its rights.
    let completed = match source.refuse_foreign_schemas().await {
        Ok(()) => source.completions().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    source.close().await;
    let proposals = proposals?;
    if let Some(structs) = structs.transpose()? {
        let said = match first_of(&structs.left, NAMED) {
            none if none.is_empty() => String::new(),
            some => format!("\nWithout one, for the reasons that the file names: {some}"),
        };
        return hand_out(&structs, &out, json, "has structs of", &said);
    }
    let text = file(
        &proposals,
        config.source.url.as_ref().map(|url| (url.to_string(), url.to_string() == url.expose())),
        next_control_table(&config.control_table(), &completed),
        target,
    );
    let is_hidden = config.source.url.as_ref().is_none_or(|url| url.to_string() != url.expose());
    let is_proposed = |name: &str| proposals.iter().any(|one| one.movable && one.name == name);
    require_tables_alone(&text, is_proposed)?;
    let name = |proposal: &Proposal| proposal.name.clone();
    let (movable, left): (Vec<_>, Vec<_>) = proposals.iter().partition(|proposal| proposal.movable);
    let (written, left) = (movable.into_iter().map(name).collect(), left.into_iter().map(name).collect());
    let declared = Written { text, written, left };
    let mut said = String::new();
    if !declared.left.is_empty() {
        let left = declared.left.join(", ");
        let _ = write!(said, "\nNot declared, for the reasons that the file names: {left}");
    }
    let unset = match (is_hidden, target) {
        (true, Some(_)) => "set source.url, ",
        (true, None) => "set source.url and the target, ",
        (false, Some(_)) => "",
        (false, None) => "set the target, ",
    };
    let _ = write!(said, "\nRead it, {unset}and run `cargo xtask plan` and `cargo xtask migrate`.");
    hand_out(&declared, &out, json, "declares", &said)
}

/// A text for the tables of a database, and which of them are in it.
struct Written {
    text: String,
    written: Vec<String>,
    left: Vec<String>,
}

fn is_stdout(out: &Path) -> bool {
    out.as_os_str() == "-"
}

/// Prints or writes a text. What it `has` of which tables, and `said`, are told where it is not printed.
fn hand_out(written: &Written, out: &Path, json: bool, has: &str, said: &str) -> anyhow::Result<Exit> {
    let Written { text, written, left } = written;
    if !is_stdout(out) {
        write_private(out, |file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", out.display()))?;
    }
    if json {
        print_json(&json!({ "declared": written, "not_declared": left, "file": out, "text": text }));
    } else if is_stdout(out) {
        print(text);
    } else {
        let (number, names) = (tables(written.len()), first_of(written, NAMED));
        print(&format!("{} {has} {number}: {names}{said}", out.display()));
    }
    Ok(Exit::Done)
}

fn tables(number: usize) -> String {
    if number == 1 { "1 table".to_owned() } else { format!("{number} tables") }
}

async fn proposals(source: &Source, wanted: &[String]) -> anyhow::Result<Vec<Proposal>> {
    let relations = match wanted {
        [] => source.relations().await?,
        named => named.iter().map(|name| name.parse::<Relation>()).collect::<Result<Vec<_>, _>>()?,
    };
    let (mut proposals, mut taken) = (Vec::new(), BTreeSet::new());
    let (mut declared, mut inbound) = (Vec::new(), Vec::new());
    for relation in relations {
        let Some(table) = source.catalog_table(&relation).await? else {
            return Err(Failure::usage(no_table(&relation, &source.relations().await?)));
        };
        let lost = source.lost_in_target(table.oid).await?;
        let mut proposal = propose(&table, &taken, &lost, false);
        if proposal.movable {
            let mut looked = looked_at(source, &table, proposal).await?;
            if looked.set_aside > 0 {
                // Some for a key that is empty: those can be moved under another one.
                let other = looked_at(source, &table, propose(&table, &taken, &lost, true)).await?;
                if other.proposal.movable && other.set_aside < looked.set_aside {
                    looked = other;
                }
            }
            proposal = looked.proposal;
        }
        taken.insert(proposal.name.clone());
        if proposal.movable {
            let keys = source.foreign_keys_to(table.oid).await?;
            inbound.extend(keys.into_iter().map(|key| (proposals.len(), key)));
            declared.push(relation);
        }
        proposals.push(proposal);
    }
    for (at, key) in inbound {
        if key.by.as_ref().is_some_and(|by| !declared.contains(by)) {
            let text = &mut proposals[at].text;
            let said = format!(
                "DECIDE before DynamoOnly: the foreign key {} is of a table that is not declared here.",
                key.name
            );
            let until = "That step is refused until the key is dropped, or its table is declared as well.";
            *text = format!("{}{}{text}", comment(&said), comment(until));
        }
    }
    Ok(proposals)
}

/// Tables that are named where one is not there.
const NEAR: usize = 3;

/// Says that the table is not there, and which are meant by chance: those of that name in other schemas, else
/// those of names that are near.
fn no_table(relation: &Relation, known: &[Relation]) -> String {
    let of = |name: &str| name.to_lowercase();
    let name = of(&relation.name);
    let same: Vec<&Relation> = known.iter().filter(|other| of(&other.name) == name).collect();
    let near = || {
        let apart = |other: &Relation| {
            let other = of(&other.name);
            let within = other.contains(&name) || name.contains(&other);
            if within { 1 } else { strsim::levenshtein(&name, &other) }
        };
        let most = (name.chars().count() / 3).max(1);
        let mut near: Vec<(usize, &Relation)> = known.iter().map(|other| (apart(other), other)).collect();
        near.retain(|(apart, _)| *apart <= most);
        near.sort_by_key(|(apart, _)| *apart);
        near.into_iter().take(NEAR).map(|(_, other)| other).collect()
    };
    let meant: Vec<&Relation> = if same.is_empty() { near() } else { same };
    let meant = meant.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let meant = match (meant.as_str(), known) {
        ("", []) => "; it has none at all, or none that this role may see".to_owned(),
        ("", known) => {
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            format!("; there are {}", first_of(&names, NAMED))
        }
        (meant, _) => format!("; is {meant} meant?"),
    };
    format!("there is no table {relation} in this database{meant}")
}

/// A proposal that was held against rows.
struct LookedAt {
    proposal: Proposal,
    /// Number of those rows that it could not hold.
    set_aside: usize,
}

/// Returns the proposal with what a sample says of its items, or, where `migrate` would refuse it, as
/// comments with the reason: one table that cannot move must not stop those that can.
async fn looked_at(
    source: &Source,
    table: &CatalogTable,
    mut proposal: Proposal,
) -> anyhow::Result<LookedAt> {
    let (relation, rows) = (&table.relation, table.rows_estimate);
    let refused = match binding_of(table, &proposal) {
        Err(why) => vec![why],
        Ok(binding) => match refusals(source, &binding).await? {
            whys if whys.is_empty() => match sample(source, &binding).await {
                Ok((sampled, set_aside)) => {
                    let about = format!("{relation}: about {rows} rows by PostgreSQL's statistics.");
                    let wide = several_texts(source, &binding).await?;
                    proposal.text = format!("{}{sampled}{wide}{}", comment(&about), proposal.text);
                    return Ok(LookedAt { proposal, set_aside });
                }
                Err(why) => vec![format!("its rows cannot be read: {why}")],
            },
            whys => whys,
        },
    };
    let lines = proposal.text.lines().map(|line| match line {
        "" => "#\n".to_owned(),
        line if line.starts_with('#') => format!("{line}\n"),
        line => comment(line),
    });
    let why = format!("{relation} is not declared: {}.", refused.join("; ").replace('\n', " "));
    let once = comment("Once that is repaired it could be:");
    proposal.text = format!("{}{once}{}", comment(&why), lines.collect::<String>());
    proposal.movable = false;
    Ok(LookedAt { proposal, set_aside: 0 })
}

/// Returns what the gates of `migrate` would refuse of the source, whatever the target is.
async fn refusals(source: &Source, binding: &TableBinding) -> anyhow::Result<Vec<String>> {
    if !source.guarded(std::slice::from_ref(binding)).await?.is_empty() {
        let why = "it was moved by a migration that is complete, and its guard refuses every write; its \
                   applications go on with it in DynamoDB";
        return Ok(vec![why.to_owned()]);
    }
    let found = source.describe(binding).await?;
    let mut refused = found.mismatches(binding);
    let hidden = hides(&found.fingerprint);
    let said = hidden.iter().map(|way| way.split_once(": ").map_or(way.as_str(), |(_, sentence)| sentence));
    refused.extend(said.map(str::to_owned).chain(source.taken_by_another(binding).await?));
    Ok(refused)
}

/// Returns what is to be known of a key whose equal values have several texts, as comments.
async fn several_texts(source: &Source, binding: &TableBinding) -> lockstep_core::Result<String> {
    let mut said = String::new();
    for (column, sql_type) in source.keys_of_several_texts(binding).await? {
        said += &comment(&format!(
            "NOTE for DynamoOnly: the key's `{column}` is or holds {sql_type}, of which PostgreSQL \
             takes several texts for one value."
        ));
        said += &comment("Write it there as PostgreSQL prints it: two items of one value would be one row.");
    }
    Ok(said)
}

fn binding_of(table: &CatalogTable, proposal: &Proposal) -> Result<TableBinding, String> {
    let declaration = declaration_of(proposal)?;
    // A name for the life of the program; there is one a table.
    let name: &'static str = Box::leak(proposal.name.clone().into_boxed_str());
    let declared = resolve(name, &declaration, table).map_err(|problems| problems.join("; "))?;
    let relation = table.relation.clone();
    Ok(TableBinding { table: std::sync::Arc::new(declared), relation, target_name: name.to_owned() })
}

/// Returns what rows of a table say of its items, as comments, and how many of them could not be held.
async fn sample(source: &Source, binding: &TableBinding) -> lockstep_core::Result<(String, usize)> {
    let parts = source.some_rows(binding, SAMPLED).await?;
    let indexes = binding.table.target().indexes;
    let (mut rows, mut bytes, mut units, mut refused, mut why) = (0_usize, 0, 0, 0_usize, String::new());
    for tuple in parts.iter().flat_map(lockstep_postgres::CopyChunk::tuples) {
        match binding.table.encode(&mut Fields::of_copy(tuple)) {
            Ok(item) => {
                (rows, bytes, units) =
                    (rows + 1, bytes + item.bytes(), units + item.write_units_with(indexes));
            }
            Err(reason) => (refused, why) = (refused + 1, reason.to_string()),
        }
    }
    let mut said = String::new();
    if rows > 0 {
        let mean = |sum: usize| sum as f64 / rows as f64;
        said += &comment(&format!(
            "An item has {:.0} bytes and takes {:.1} write units with its indexes (mean of {rows} rows).",
            mean(bytes),
            mean(units)
        ));
    }
    if refused > 0 {
        said += &comment(&format!(
            "DECIDE: {refused} of {} rows looked at cannot be held: {why}.",
            rows + refused
        ));
    }
    Ok((said, refused))
}

/// Returns the proposal as the configuration reads it.
fn declaration_of(proposal: &Proposal) -> Result<Declaration, String> {
    let config = Config::of_text(&Registry::default(), &proposal.text).map_err(|error| error.to_string())?;
    config
        .declared
        .declaration(&proposal.name)
        .cloned()
        .ok_or_else(|| "the proposal declares another table".to_owned())
}

/// Variables that say where the target is.
const OF_THE_TARGET: [&str; 6] = [
    "LOCKSTEP_TARGET__ENDPOINT_URL",
    "LOCKSTEP_TARGET__REGION",
    "LOCKSTEP_TARGET__PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
];

/// Returns what says where the target is, besides the file that is to be written: a variable of the
/// environment, or the file of now.
fn target_is_set_by(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Option<&'static str> {
    let is_set = |name: &&&str| variable(name).is_some_and(|value| !value.is_empty());
    let named = OF_THE_TARGET.iter().find(is_set).copied();
    named.or_else(|| config.target.is_named().then_some("the configuration that `init` was given"))
}

/// Returns the whole file. The URL is written as one shows it, and stands as it is where no password was
/// taken out of it.
fn file(
    proposals: &[Proposal],
    url: Option<(String, bool)>,
    control_table: Option<String>,
    target: Option<&str>,
) -> String {
    let mut text =
        String::from("# Made by `init`. Every line may be changed; DECIDE marks what needs a decision.\n");
    match target {
        Some(by) => {
            let _ = writeln!(text, "# The target is set by {by}, and not here.\n");
        }
        None => text.push_str(
            "# The target is not set yet: a region, or the endpoint of an emulator for a rehearsal.\n\n",
        ),
    }
    // Without its password: that is for the environment or source.password_file.
    let _ = writeln!(text, "[source]");
    match url {
        Some((url, true)) => {
            let _ = writeln!(text, "url = {}", serde_json::Value::from(url));
        }
        Some((url, false)) => {
            let _ = writeln!(
                text,
                "# url = {}  # set LOCKSTEP_SOURCE__URL, which may hold the password",
                serde_json::Value::from(url)
            );
        }
        None => text.push_str("# url = \"postgres://…\"\n"),
    }
    text.push_str("\n[target]\n# region = \"eu-central-1\"\n");
    if let Some(name) = control_table {
        let _ = writeln!(
            text,
            "# A migration is complete in this database, and keeps its control table.\n\
             # Applications need this line too.\n\
             control_table = {}",
            serde_json::Value::from(name)
        );
    }
    for proposal in proposals {
        let _ = write!(text, "\n{}", proposal.text);
    }
    text
}

/// A name for the control table where the database remembers migrations that are complete: one has the usual
/// name, or may have it.
fn next_control_table(usual: &str, completed: &[Completed]) -> Option<String> {
    let is_taken =
        |name: &String| completed.iter().any(|done| done.control_table.as_deref() == Some(name.as_str()));
    let first = completed.len() + 1;
    (first > 1).then(|| (first..).map(|number| format!("{usual}_{number}")).find(|name| !is_taken(name)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_migration_in_a_database_is_given_a_control_table_of_its_own() {
        let done = |name: Option<&str>| -> Completed {
            serde_json::from_value(json!({
                "completed_at": "2026-01-02T03:04:05Z", "epoch": 6, "control_table": name
            }))
            .expect("a completion")
        };
        let next = |completed: &[Completed]| next_control_table("lockstep_control", completed);
        assert_eq!(next(&[]), None);
        for (completed, expected) in [
            (vec![done(None)], "lockstep_control_2"),
            (vec![done(Some("lockstep_control")), done(Some("lockstep_control_2"))], "lockstep_control_3"),
            (vec![done(Some("lockstep_control_2"))], "lockstep_control_3"),
        ] {
            assert_eq!(next(&completed).as_deref(), Some(expected));
            let text = file(&[], None, next(&completed), None);
            assert!(text.contains(&format!("\ncontrol_table = \"{expected}\"\n")), "{text}");
        }
    }

    #[test]
    fn a_target_that_the_environment_sets_is_not_said_to_be_missing() {
        let set = |name: &'static str| move |asked: &str| (asked == name).then(|| "set".to_owned());
        for name in OF_THE_TARGET {
            let by = target_is_set_by(&Config::default(), set(name));
            assert_eq!(by, Some(name));
            let text = file(&[], None, None, by);
            assert!(text.contains(&format!("set by {name}")) && !text.contains("not set yet"), "{text}");
        }
        let mut config = Config::default();
        assert_eq!(target_is_set_by(&config, |_| None), None);
        assert!(file(&[], None, None, None).contains("The target is not set yet"));
        config.target.region = Some("eu-central-1".to_owned());
        assert!(target_is_set_by(&config, |_| None).is_some());
    }

    #[test]
    fn a_table_of_the_name_in_another_schema_is_mentioned() {
        let of = |name: &str| name.parse::<Relation>().expect("a name");
        let said = no_table(&of("orders"), &[of("shop.orders"), of("shop.items")]);
        assert!(said.ends_with("; is shop.orders meant?"), "{said}");
        assert!(!no_table(&of("orders"), &[]).contains("meant"));
        // Near ones: a slip, another number, a part of the name, capitals.
        let known = [of("public.orders"), of("shop.order_items"), of("shop.customers"), of("shop.\"Users\"")];
        for (typed, meant) in [
            ("odrers", "; is public.orders meant?"),
            ("order", "; is public.orders or shop.order_items meant?"),
            ("shop.customer", "; is shop.customers meant?"),
            ("users", "; is shop.Users meant?"),
        ] {
            let said = no_table(&of(typed), &known);
            assert!(said.ends_with(meant), "{typed}: {said}");
        }
        let said = no_table(&of("invoices"), &known);
        assert!(!said.contains("meant") && said.contains("there are public.orders, "), "{said}");
    }
}
