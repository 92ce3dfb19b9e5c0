//! A daemon with a certificate: it speaks TLS, may listen beyond this machine, and says what is wrong with
//! files.

use std::path::Path;
use std::process::Command as Run;
use std::sync::Arc;

use lockstep_tests::World;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::served::OPERATE;
use crate::process::{command, ended};

/// A certificate for this machine and its key, in a folder.
fn certificate(folder: &Path) -> (String, String) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (cert, key) = (path("tls.crt"), path("tls.key"));
    let made = Run::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        // Or it would be one that vouches for others, and such a one is not shown by a server.
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &cert])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}

#[tokio::test]
async fn with_a_certificate_it_speaks_tls_and_may_be_reached_from_elsewhere() {
    let world = World::start().await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let (cert, key) = certificate(folder.path());
    let mut served = command(&world, &["serve", "--json", "--listen", "0.0.0.0:0"]);
    served
        .env("LOCKSTEP_OPERATE_TOKEN", OPERATE)
        .env("LOCKSTEP_SERVE__TLS_CERT", &cert)
        .env("LOCKSTEP_SERVE__TLS_KEY", &key);
    let mut child = served.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let said: Value =
        serde_json::from_str(&lines.next_line().await.expect("it reads").expect("it says where"))
            .expect("JSON");
    let port = said["address"]
        .as_str()
        .expect("an address")
        .strip_prefix("https://0.0.0.0:")
        .expect("by https")
        .to_owned();

    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(&cert).expect("the certificate");
    roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream =
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("it shows the certificate");
    let asked = format!(
        "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATE}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    // That it hangs up without a word of TLS is no matter here.
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("x-request-id"), "{answer}");

    let mut plain = TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("it listens");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("asked");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"), "it speaks no plain HTTP beside it");
    child.kill().await.expect("it ends");

    for (cert, key, says) in [
        (key.as_str(), key.as_str(), "holds no certificate"),
        (cert.as_str(), cert.as_str(), "holds no private key"),
        (cert.as_str(), "/no/such/file", "cannot read the certificate's key"),
    ] {
        let mut wrong = command(&world, &["serve", "--listen", "127.0.0.1:0"]);
        wrong
            .env("LOCKSTEP_OPERATE_TOKEN", OPERATE)
            .env("LOCKSTEP_SERVE__TLS_CERT", cert)
            .env("LOCKSTEP_SERVE__TLS_KEY", key);
        let output = ended(wrong).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}
