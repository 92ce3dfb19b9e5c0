//! Rights that this crate needs of AWS, and the roles that need them: one table, from which policies are
//! made.
//!
//! A test holds it against the source of the crate: a request that is added here without a line in it fails
//! the build's tests, and so does a line that no request needs.

use lockstep_core::Phase;

/// The identity that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Commands that move something.
    Operator,
    /// A program that embeds the stores.
    Application,
    /// Status, diagnosis and report, which change nothing.
    ReadOnly,
    /// Removal of the target tables with the migration, beside the operator's: nothing else deletes a
    /// table.
    Remover,
}

/// Object of a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// The tables that are moved to.
    Tables,
    /// Indexes of these tables.
    Indexes,
    /// Streams of these tables.
    Streams,
    /// Imports from S3 that make them.
    Imports,
    /// The control table.
    Control,
    /// The account: AWS knows no narrower resource for it.
    Account,
}

/// A request, where it is sent from, and the actions that it needs.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Request {
    /// Name of the operation in the SDK.
    pub operation: &'static str,
    /// Modules of this crate, in the order of their names.
    pub modules: &'static [&'static str],
    /// Actions of `dynamodb:`.
    pub actions: &'static [&'static str],
}

const fn request(
    operation: &'static str,
    modules: &'static [&'static str],
    actions: &'static [&'static str],
) -> Request {
    Request { operation, modules, actions }
}

/// Returns everything that this crate can send.
pub fn requests() -> &'static [Request] {
    REQUESTS
}

/// Everything that is sent. A transaction needs the actions of what is in it, and a condition on an item that
/// is not written is one.
const REQUESTS: &[Request] = &[
    request("batch_execute_statement", &["dry", "initial_load"], &["PartiQLInsert", "PartiQLSelect"]),
    request("batch_get_item", &["dry", "read"], &["BatchGetItem"]),
    request("create_table", &["tables"], &["CreateTable"]),
    request("delete_item", &["control", "dry", "mark", "probe", "purge", "streams"], &["DeleteItem"]),
    request("delete_table", &["remove"], &["DeleteTable"]),
    request("describe_continuous_backups", &["dry", "protection"], &["DescribeContinuousBackups"]),
    request("describe_import", &["imports"], &["DescribeImport"]),
    request("describe_limits", &["capacity"], &["DescribeLimits"]),
    request("describe_stream", &["streams"], &["DescribeStream"]),
    request("describe_table", &["count", "tables"], &["DescribeTable"]),
    request("describe_time_to_live", &["expiry"], &["DescribeTimeToLive"]),
    request("get_item", &["control", "dry", "read"], &["GetItem"]),
    request("get_records", &["streams"], &["GetRecords"]),
    request("get_shard_iterator", &["streams"], &["GetShardIterator"]),
    request("import_table", &["imports"], &["ImportTable"]),
    request("list_imports", &["imports"], &["ListImports"]),
    request("list_streams", &["tables"], &["ListStreams"]),
    request(
        "put_item",
        &["conditional", "control", "dry", "guarded", "initial_load", "streams"],
        &["PutItem"],
    ),
    request("query", &["control", "dry", "query"], &["Query"]),
    request("scan", &["dry", "read", "tables"], &["Scan"]),
    request("transact_get_items", &["conditional"], &["GetItem"]),
    request(
        "transact_write_items",
        &["conditional", "control", "transact"],
        &["PutItem", "UpdateItem", "DeleteItem"],
    ),
    request("update_item", &["control", "dry", "mark", "purge"], &["UpdateItem"]),
    request("update_continuous_backups", &["protection"], &["UpdateContinuousBackups"]),
    request("update_table", &["protection", "streams"], &["UpdateTable"]),
    request("update_time_to_live", &["expiry"], &["UpdateTimeToLive"]),
    // Every identity may ask which it is.
    request("get_caller_identity", &["lib"], &[]),
];

use On::{Account, Control, Imports, Indexes, Streams, Tables};
use Role::{Application, Operator, ReadOnly, Remover};

/// Actions that each role needs, and on what.
pub(super) const RIGHTS: &[(&str, On, &[Role])] = &[
    ("DescribeTable", Tables, &[Operator, Application, ReadOnly]),
    ("CreateTable", Tables, &[Operator]),
    ("UpdateTable", Tables, &[Operator]),
    ("DescribeContinuousBackups", Tables, &[Operator, ReadOnly]),
    ("UpdateContinuousBackups", Tables, &[Operator]),
    ("DescribeTimeToLive", Tables, &[Operator, ReadOnly]),
    ("UpdateTimeToLive", Tables, &[Operator]),
    ("GetItem", Tables, &[Operator, Application, ReadOnly]),
    ("BatchGetItem", Tables, &[Operator, Application, ReadOnly]),
    ("Query", Tables, &[Operator, Application, ReadOnly]),
    ("Scan", Tables, &[Operator, ReadOnly]),
    ("PutItem", Tables, &[Operator, Application]),
    ("UpdateItem", Tables, &[Operator]),
    ("DeleteItem", Tables, &[Operator]),
    ("PartiQLInsert", Tables, &[Operator, Application]),
    ("PartiQLSelect", Tables, &[Operator]),
    ("Query", Indexes, &[Operator, Application, ReadOnly]),
    ("DescribeStream", Streams, &[Operator, ReadOnly]),
    ("GetShardIterator", Streams, &[Operator]),
    ("GetRecords", Streams, &[Operator]),
    ("DescribeTable", Control, &[Operator, Application, ReadOnly]),
    ("CreateTable", Control, &[Operator]),
    ("UpdateTable", Control, &[Operator]),
    ("DescribeContinuousBackups", Control, &[Operator, ReadOnly]),
    ("UpdateContinuousBackups", Control, &[Operator]),
    ("DescribeTimeToLive", Control, &[Operator, ReadOnly]),
    ("UpdateTimeToLive", Control, &[Operator]),
    ("GetItem", Control, &[Operator, Application, ReadOnly]),
    ("Query", Control, &[Operator, Application, ReadOnly]),
    ("PutItem", Control, &[Operator, Application]),
    ("UpdateItem", Control, &[Operator, Application]),
    ("DeleteItem", Control, &[Operator, Application]),
    ("DeleteTable", Tables, &[Remover]),
    ("DeleteTable", Control, &[Remover]),
    ("ListStreams", Account, &[Operator, ReadOnly]),
    ("ImportTable", Tables, &[Operator]),
    ("DescribeImport", Imports, &[Operator]),
    ("ListImports", Account, &[Operator]),
    // A table on demand takes no more than the account's quota of one, whatever the budget says.
    ("DescribeLimits", Account, &[Operator]),
];

/// Actions that only the initial load needs. The step to HybridRead asks for all of it to be copied, so from
/// there on no role asks for them.
const OF_THE_INITIAL_LOAD: [&str; 4] = ["DescribeImport", "DescribeLimits", "ImportTable", "ListImports"];

/// Actions on a customer's key of who makes and changes tables that are encrypted by it, and of who reads and
/// writes them.
///
/// Source: Amazon DynamoDB Developer Guide, "DynamoDB encryption at rest: usage notes", "Authorizing use of a
/// customer managed key".
const ON_KEYS: [&str; 6] =
    ["CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey*", "ReEncrypt*"];
const ON_KEYS_TO_USE: [&str; 2] = ["Decrypt", "DescribeKey"];

/// Resources that a policy is about.
#[derive(Clone, Debug)]
pub struct Resources {
    /// The region of the tables.
    pub region: String,
    /// Twelve digits.
    pub account: String,
    /// Names of the tables that are moved to.
    pub tables: Vec<String>,
    /// Name of the control table.
    pub control: String,
    /// Bucket and prefix of the objects that DynamoDB imports, where it does.
    pub import: Option<(String, String)>,
    /// Whether the role puts these objects there itself.
    pub import_is_direct: bool,
    /// ARNs of the keys in KMS by which tables are encrypted, where they are a customer's.
    pub keys: Vec<String>,
}

impl Resources {
    fn partition(&self) -> &'static str {
        match self.region.split('-').next() {
            Some("cn") => "aws-cn",
            Some("us") if self.region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    /// Statements for the role that asks for an import: to read the objects, and to write its log of errors
    /// (Developer Guide, "Validating an import").
    fn of_import(&self) -> Vec<serde_json::Value> {
        let Some((bucket, prefix)) = &self.import else { return Vec::new() };
        let bucket = format!("arn:{}:s3:::{bucket}", self.partition());
        let on_objects: &[&str] = match self.import_is_direct {
            true => &["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            false => &["s3:GetObject"],
        };
        let logs = [
            "CreateLogGroup",
            "CreateLogStream",
            "DescribeLogGroups",
            "DescribeLogStreams",
            "PutLogEvents",
            "PutRetentionPolicy",
        ];
        let logs: Vec<String> = logs.iter().map(|action| format!("logs:{action}")).collect();
        let log_groups = format!(
            "arn:{}:logs:{}:{}:log-group:/aws-dynamodb/*",
            self.partition(),
            self.region,
            self.account
        );
        let objects =
            format!("{bucket}/{}", [prefix.trim_matches('/'), "*"].join("/").trim_start_matches('/'));
        let allow = |sid: &str, actions: serde_json::Value, on: String| {
            let on = [on];
            serde_json::json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": on })
        };
        vec![
            allow("LockstepImportBucket", serde_json::json!(["s3:ListBucket"]), bucket),
            allow("LockstepImportObjects", serde_json::json!(on_objects), objects),
            allow("LockstepImportLog", serde_json::json!(logs), log_groups),
        ]
    }

    /// The statement on the keys: through DynamoDB, and for nothing else.
    fn of_keys(&self, role: Role) -> Option<serde_json::Value> {
        let actions: &[&str] = match role {
            Operator => &ON_KEYS,
            Application | ReadOnly => &ON_KEYS_TO_USE,
            // DynamoDB gives back the grants of a table that is deleted.
            Remover => &[],
        };
        let actions: Vec<String> = actions.iter().map(|action| format!("kms:{action}")).collect();
        let through = format!("dynamodb.{}.{}", self.region, self.domain());
        (!self.keys.is_empty() && !actions.is_empty()).then(|| {
            serde_json::json!({
                "Sid": "LockstepKeys", "Effect": "Allow", "Action": actions, "Resource": self.keys,
                "Condition": { "StringEquals": { "kms:ViaService": through } }
            })
        })
    }

    fn domain(&self) -> &'static str {
        if self.partition() == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" }
    }

    fn arns(&self, on: On) -> Vec<String> {
        let partition = self.partition();
        let arn =
            |name: &str| format!("arn:{partition}:dynamodb:{}:{}:table/{name}", self.region, self.account);
        match on {
            Tables => self.tables.iter().map(|name| arn(name)).collect(),
            Indexes => self.tables.iter().map(|name| arn(&format!("{name}/index/*"))).collect(),
            Streams => self.tables.iter().map(|name| arn(&format!("{name}/stream/*"))).collect(),
            Imports => self.tables.iter().map(|name| arn(&format!("{name}/import/*"))).collect(),
            Control => vec![arn(&self.control)],
            Account => vec!["*".to_owned()],
        }
    }
}

/// Returns the policy of a role, as IAM takes it: no action that is not asked for, and no resource that is
/// not the migration's. With `from` it has what is asked for in that phase and later ones; after the way back
/// to an earlier one another is printed.
pub fn policy(role: Role, from: Option<Phase>, resources: &Resources) -> serde_json::Value {
    let is_copied = from.is_some_and(|from| from >= Phase::HybridRead);
    let statements = [Tables, Indexes, Streams, Imports, Control, Account].into_iter().filter_map(|on| {
        let needed = RIGHTS.iter().filter(|(action, what, roles)| {
            *what == on && roles.contains(&role) && !(is_copied && OF_THE_INITIAL_LOAD.contains(action))
        });
        let actions: Vec<String> = needed.map(|(action, ..)| format!("dynamodb:{action}")).collect();
        let statement = serde_json::json!({
            "Sid": format!("Lockstep{on:?}"), "Effect": "Allow", "Action": actions, "Resource": resources.arns(on)
        });
        (!actions.is_empty()).then_some(statement)
    });
    let mut statements: Vec<_> = statements.collect();
    if role == Operator && !is_copied {
        statements.extend(resources.of_import());
    }
    statements.extend(resources.of_keys(role));
    serde_json::json!({ "Version": "2012-10-17", "Statement": statements })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;

    /// Calls that look like one of the SDK's and are none.
    const VERBS: [&str; 13] = [
        "create_",
        "delete_",
        "describe_",
        "get_",
        "import_",
        "put_",
        "update_",
        "batch_",
        "transact_",
        "execute_",
        "list_",
        "query",
        "scan",
    ];

    /// Collects `.operation()` that a line of code sends, by module.
    fn collect(
        folder: &Path,
        module: Option<&str>,
        known: &BTreeSet<&str>,
        found: &mut BTreeMap<String, BTreeSet<String>>,
    ) {
        for entry in std::fs::read_dir(folder).expect("the source is there") {
            let path = entry.expect("an entry").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
            if path.is_dir() {
                collect(&path, Some(module.unwrap_or(&stem)), known, found);
                continue;
            }
            if stem == "tests" {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("readable");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for operation in known {
                if code.contains(&format!(".{operation}()")) {
                    let module = module.unwrap_or(&stem).to_owned();
                    found.entry((*operation).to_owned()).or_default().insert(module);
                }
            }
        }
    }

    #[test]
    fn every_request_of_this_crate_is_in_the_table_and_every_line_is_sent() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut known: BTreeSet<&str> = REQUESTS.iter().map(|request| request.operation).collect();
        // Requests that the SDK could also send, and the table does not have.
        known.extend(["batch_write_item", "execute_statement", "execute_transaction"]);
        known.extend(["list_tables", "list_backups", "create_backup"]);
        known.extend([
            "describe_endpoints",
            "tag_resource",
            "describe_kinesis_streaming_destination",
            "export_table_to_point_in_time",
        ]);
        assert!(known.iter().all(|operation| VERBS.iter().any(|verb| operation.starts_with(verb))
            || *operation == "tag_resource"
            || operation.starts_with("export_")));
        let mut sent = BTreeMap::new();
        collect(&source, None, &known, &mut sent);
        let of_table = REQUESTS.iter().map(|request| {
            (
                request.operation.to_owned(),
                request.modules.iter().map(|module| (*module).to_owned()).collect::<BTreeSet<_>>(),
            )
        });
        assert_eq!(sent, of_table.collect::<BTreeMap<_, _>>());
    }

    #[test]
    fn every_action_of_a_request_is_somebodys_right_and_no_right_is_without_one() {
        let asked: BTreeSet<&str> = REQUESTS.iter().flat_map(|request| request.actions).copied().collect();
        let given: BTreeSet<&str> = RIGHTS.iter().map(|(action, ..)| *action).collect();
        assert_eq!(asked, given);
        assert!(RIGHTS.iter().all(|(.., roles)| !roles.is_empty()));
    }

    #[test]
    fn a_policy_names_the_migrations_resources_and_who_only_reads_writes_nothing() {
        let resources = Resources {
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
            tables: vec!["loans".to_owned()],
            control: "lockstep_control".to_owned(),
            import: Some(("bucket".to_owned(), "lockstep/".to_owned())),
            import_is_direct: false,
            keys: Vec::new(),
        };
        let text = |role| policy(role, None, &resources).to_string();
        assert!(text(Operator).contains("arn:aws:dynamodb:eu-central-1:123456789012:table/loans/stream/*"));
        assert!(!text(Operator).contains("DeleteTable"));
        assert!(text(Operator).contains("arn:aws:s3:::bucket/lockstep/*"));
        assert!(!text(Application).contains("s3:"));
        let direct = Resources { import_is_direct: true, ..resources.clone() };
        for (right, of_it) in [("s3:PutObject", "s3:GetObject"), ("s3:DeleteObject", "s3:ListBucket")] {
            assert!(!text(Operator).contains(right) && text(Operator).contains(of_it), "{right}");
            assert!(policy(Operator, None, &direct).to_string().contains(right), "{right}");
            assert!(!policy(Application, None, &direct).to_string().contains(right), "{right}");
        }
        for never in ["DeleteTable", "dynamodb:*", "Scan"] {
            assert!(!text(Application).contains(never), "{never}");
        }
        for writes in ["Put", "Update", "Delete", "Create", "Insert"] {
            assert!(!text(ReadOnly).contains(writes), "{writes}");
        }
        let gov = Resources { region: "us-gov-west-1".to_owned(), ..resources };
        assert!(policy(ReadOnly, None, &gov).to_string().contains("arn:aws-us-gov:dynamodb:us-gov-west-1"));
    }

    #[test]
    fn a_policy_from_a_phase_on_has_what_is_asked_for_there_and_keys_are_used_through_dynamodb_alone() {
        let key = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd";
        let resources = Resources {
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
            tables: vec!["loans".to_owned()],
            control: "lockstep_control".to_owned(),
            import: Some(("bucket".to_owned(), "lockstep/".to_owned())),
            import_is_direct: true,
            keys: vec![key.to_owned()],
        };
        let text = |role, from| policy(role, from, &resources).to_string();
        for from in [None, Some(Phase::PostgresOnly), Some(Phase::DualWrite)] {
            assert_eq!(policy(Operator, from, &resources), policy(Operator, None, &resources), "{from:?}");
        }
        for from in [Phase::HybridRead, Phase::DynamoOnly] {
            let said = text(Operator, Some(from));
            assert!(said.contains("GetRecords") && said.contains("PutItem"), "the way back: {said}");
            for gone in OF_THE_INITIAL_LOAD.into_iter().chain(["s3:", "logs:"]) {
                assert!(!said.contains(gone) && text(Operator, None).contains(gone), "{gone}");
            }
        }
        assert!(OF_THE_INITIAL_LOAD.iter().all(|name| RIGHTS.iter().any(|(action, ..)| action == name)));
        for role in [Operator, Application, ReadOnly] {
            let said = text(role, None);
            assert!(said.contains(key) && said.contains("kms:Decrypt"), "{said}");
            assert!(said.contains("\"kms:ViaService\":\"dynamodb.eu-central-1.amazonaws.com\""), "{said}");
            assert_eq!(said.contains("kms:CreateGrant"), role == Operator, "{role:?}");
        }
        assert!(!text(Remover, None).contains("kms:"));
        let without = Resources { keys: Vec::new(), ..resources.clone() };
        assert!(!policy(Operator, None, &without).to_string().contains("kms:"));
    }
}
