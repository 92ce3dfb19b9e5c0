//! A DynamoDB that imports from S3, before an emulator that does not know how.
//!
//! As Amazon documents it: one token is one job; a table that is there is refused; while a job runs its table
//! is CREATING and takes no other call; of two items with one key one stays, in no order; an item that the
//! table does not take is left out and counted, and the job ends FAILED with the rest in the table; a job
//! that cannot read its objects fails and leaves no table. A bucket is a folder.
//!
//! Sources: Amazon DynamoDB Developer Guide, "Importing and exporting data using Amazon S3", and API
//! Reference, ImportTable, DescribeImport, ListImports.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::answers::{self, Answer};
use super::call::Call;
use super::proxy::lock;
use super::upstream::{BODY_BYTES_MAX, BoxError, Upstream};

/// Rules by which jobs go.
#[derive(Clone, Debug, Default)]
pub struct ImportRules {
    /// Number of times that a job says that it is at work, before it is carried out.
    pub looks: u64,
    /// Every item of this number is one that the table does not take; 0 for none.
    pub refuses_every: usize,
    /// Items after which a job fails half way.
    pub fails_after: Option<usize>,
    /// Calls of ImportTable that are carried out, and whose answer is lost.
    pub lose_replies: u64,
    /// Whether the right to list imports is missing.
    pub denies_lists: bool,
}

/// The server.
#[derive(Debug)]
pub struct ImportServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    bucket: PathBuf,
    rules: Mutex<ImportRules>,
    jobs: Mutex<Vec<Job>>,
    too_early: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Job {
    token: String,
    table: String,
    prefix: String,
    parameters: Value,
    looks: u64,
    state: &'static str,
    table_id: Value,
    processed: usize,
    imported: usize,
    errors: usize,
    failure: Option<&'static str>,
}

impl ImportServer {
    /// Listens on a free port, before the emulator at `upstream_url`; every bucket is the folder `bucket`.
    ///
    /// # Errors
    /// If the address is not one of plain HTTP, or no port is free.
    pub async fn start(upstream_url: &str, bucket: &Path, rules: ImportRules) -> io::Result<Self> {
        let upstream = Upstream::new(upstream_url).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            upstream,
            bucket: bucket.to_owned(),
            rules: Mutex::new(rules),
            jobs: Mutex::default(),
            too_early: Mutex::default(),
        });
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let listener = tokio::spawn(listen(socket, Arc::clone(&shared)));
        Ok(Self { shared, address, listener })
    }

    /// Returns the URL for the SDK.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the rules by which jobs go from now on.
    pub fn set(&self, rules: ImportRules) {
        *lock(&self.shared.rules) = rules;
    }

    /// Lets jobs that are under way be carried out.
    pub fn release(&self) {
        lock(&self.shared.rules).looks = 0;
        lock(&self.shared.jobs).iter_mut().for_each(|job| job.looks = 0);
    }

    /// Returns how many jobs were begun.
    pub fn jobs(&self) -> usize {
        lock(&self.shared.jobs).len()
    }

    /// Writes that came for a table while an import made it.
    pub fn too_early(&self) -> Vec<String> {
        lock(&self.shared.too_early).clone()
    }
}

impl Drop for ImportServer {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn listen(socket: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            // An error is how a connection is cut: by us on purpose, or by the client.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, BoxError> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
    let call = Call::new(parts, body);
    let asked: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    match call.operation.as_str() {
        "ImportTable" => shared.begin(&call, &asked).await,
        "DescribeImport" => shared.look(&call, asked["ImportArn"].as_str().unwrap_or_default()).await,
        "ListImports" if lock(&shared.rules).denies_lists => {
            Ok(refusal("AccessDeniedException", "not authorized to perform dynamodb:ListImports"))
        }
        "ListImports" => Ok(shared.list(asked["TableArn"].as_str().unwrap_or_default())),
        _ => match shared.making(&call) {
            Some(table) if call.operation == "DescribeTable" => {
                let arn = format!("arn:aws:dynamodb:eu-central-1:000000000000:table/{table}");
                let made = json!({ "TableName": table, "TableArn": arn, "TableStatus": "CREATING" });
                Ok(of(StatusCode::OK, &json!({ "Table": made })))
            }
            Some(table) => {
                lock(&shared.too_early).push(format!("{} of {table}", call.operation));
                Ok(refusal("ResourceNotFoundException", "the table is being created"))
            }
            None => shared.upstream.forward(&call, None).await,
        },
    }
}

impl Shared {
    fn making(&self, call: &Call) -> Option<String> {
        let jobs = lock(&self.jobs);
        let running = jobs.iter().find(|job| job.state == "IN_PROGRESS" && call.names(&job.table));
        running.map(|job| job.table.clone())
    }

    async fn begin(&self, call: &Call, asked: &Value) -> Result<Answer, BoxError> {
        let parameters = &asked["TableCreationParameters"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (token, table) = (text(&asked["ClientToken"]), text(&parameters["TableName"]));
        let known = lock(&self.jobs).iter().position(|job| job.token == token);
        if let Some(number) = known {
            return Ok(self.description(number));
        }
        let there = self.send(call, "DescribeTable", &json!({ "TableName": table })).await?;
        let busy = lock(&self.jobs).iter().any(|job| job.table == table && job.state == "IN_PROGRESS");
        if there.0 == StatusCode::OK || busy {
            return Ok(refusal("ResourceInUseException", "Table already exists"));
        }
        // The bucket is of the account of the tables.
        let owner = &asked["S3BucketSource"]["S3BucketOwner"];
        if owner.as_str().is_some_and(|owner| owner != "000000000000") {
            return Ok(refusal("ValidationException", "S3 bucket is not owned by the given account"));
        }
        let looks = lock(&self.rules).looks;
        let number = {
            let mut jobs = lock(&self.jobs);
            jobs.push(Job {
                token,
                table,
                prefix: text(&asked["S3BucketSource"]["S3KeyPrefix"]),
                parameters: parameters.clone(),
                looks,
                state: "IN_PROGRESS",
                table_id: Value::Null,
                processed: 0,
                imported: 0,
                errors: 0,
                failure: None,
            });
            jobs.len() - 1
        };
        let lost = {
            let mut rules = lock(&self.rules);
            let lost = rules.lose_replies > 0;
            rules.lose_replies = rules.lose_replies.saturating_sub(1);
            lost
        };
        if lost { Err("the answer is lost".into()) } else { Ok(self.description(number)) }
    }

    async fn look(&self, call: &Call, arn: &str) -> Result<Answer, BoxError> {
        let Some(number) = arn.rsplit('-').next().and_then(|number| number.parse::<usize>().ok()) else {
            return Ok(refusal("ImportNotFoundException", "no such import"));
        };
        let mut job = lock(&self.jobs)[number].clone();
        if job.state == "IN_PROGRESS" && job.looks == 0 {
            self.carry_out(call, &mut job).await?;
        }
        job.looks = job.looks.saturating_sub(1);
        lock(&self.jobs)[number] = job;
        Ok(self.description(number))
    }

    async fn carry_out(&self, call: &Call, job: &mut Job) -> Result<(), BoxError> {
        let rules = lock(&self.rules).clone();
        let objects = objects(&self.bucket.join(&job.prefix));
        job.state = "COMPLETED";
        if objects.is_empty() {
            (job.state, job.failure) = ("FAILED", Some("S3NoSuchKey"));
            return Ok(());
        }
        let made = self.send(call, "CreateTable", &job.parameters).await?;
        job.table_id = made.1["TableDescription"]["TableId"].clone();
        // In no order: the last object first.
        for object in objects.iter().rev() {
            let mut lines = String::new();
            GzDecoder::new(std::fs::File::open(object)?).read_to_string(&mut lines)?;
            for line in lines.lines() {
                if rules.fails_after.is_some_and(|items| job.processed >= items) {
                    (job.state, job.failure) = ("FAILED", Some("InternalServerError"));
                    return Ok(());
                }
                job.processed += 1;
                let item: Value = serde_json::from_str(line)?;
                let put = json!({ "TableName": job.table, "Item": item["Item"] });
                let refused = rules.refuses_every > 0 && job.processed.is_multiple_of(rules.refuses_every);
                if !refused && self.send(call, "PutItem", &put).await?.0 == StatusCode::OK {
                    job.imported += 1;
                } else {
                    job.errors += 1;
                }
            }
        }
        if job.errors > 0 {
            (job.state, job.failure) = ("FAILED", Some("ItemValidationError"));
        }
        Ok(())
    }

    fn list(&self, table_arn: &str) -> Answer {
        let jobs = lock(&self.jobs);
        let of_table =
            jobs.iter().enumerate().filter(|(_, job)| table_arn.ends_with(&format!("/{}", job.table)));
        let summaries: Vec<Value> = of_table.map(|(number, _)| json!({ "ImportArn": arn(number) })).collect();
        of(StatusCode::OK, &json!({ "ImportSummaryList": summaries }))
    }

    fn description(&self, number: usize) -> Answer {
        let job = &lock(&self.jobs)[number];
        let mut description = json!({
            "ImportArn": arn(number), "ImportStatus": job.state, "ClientToken": job.token,
            "ProcessedItemCount": job.processed, "ImportedItemCount": job.imported, "ErrorCount": job.errors,
            "CloudWatchLogGroupArn": "arn:aws:logs:eu-central-1:0:log-group:/aws-dynamodb/imports:*"
        });
        if !job.table_id.is_null() {
            description["TableId"] = job.table_id.clone();
        }
        if let Some(failure) = job.failure {
            (description["FailureCode"], description["FailureMessage"]) =
                (json!(failure), json!("as scripted"));
        }
        of(StatusCode::OK, &json!({ "ImportTableDescription": description }))
    }

    /// Asks the emulator, under the headers of a call that came in.
    async fn send(
        &self,
        call: &Call,
        operation: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), BoxError> {
        let mut parts = call.parts.clone();
        parts.headers.insert("x-amz-target", format!("DynamoDB_20120810.{operation}").parse()?);
        let asked = Call::new(parts, Bytes::from(serde_json::to_vec(body)?));
        let (parts, body) = self.upstream.forward(&asked, None).await?.into_parts();
        Ok((parts.status, serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default()))
    }
}

fn arn(number: usize) -> String {
    format!("arn:aws:dynamodb:eu-central-1:000000000000:table/t/import/0-{number}")
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut objects: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    objects.sort();
    objects
}

fn refusal(code: &str, message: &str) -> Answer {
    let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
    of(StatusCode::BAD_REQUEST, &json!({ "__type": kind, "message": message }))
}

fn of(status: StatusCode, body: &Value) -> Answer {
    answers::json(status, body.to_string().into())
}
