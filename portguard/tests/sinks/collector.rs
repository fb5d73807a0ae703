//! An OTLP collector's HTTP end.

use crate::{LONG, decided, open};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use portguard::events::sinks::SinkSpec;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Takes requests, a connection each, and gives each the same answer; ends with the test's process.
fn collector(status: u16, answer: &'static str) -> (SocketAddr, Receiver<Value>) {
    let (sender, requests) = channel();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(|request| take(request, &sender, status, answer));
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    });
    (told.recv().unwrap(), requests)
}

async fn take(
    request: Request<Incoming>,
    sender: &Sender<Value>,
    status: u16,
    answer: &'static str,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/logs");
    assert_eq!(request.method(), "POST");
    assert_eq!(request.headers()["content-type"], "application/json");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let _ = sender.send(serde_json::from_slice(&body).unwrap());
    let response = Response::builder().status(status);
    Ok(response.body(Full::new(answer.into())).unwrap())
}

fn sink(address: SocketAddr) -> SinkSpec {
    format!("otlp:http://{address}").parse().unwrap()
}

#[test]
fn otlp_sink_sends_log_records() {
    let (address, requests) = collector(200, "{}");
    let mut sinks = open(sink(address));
    sinks.send(&decided(80, 12));
    let request = requests.recv_timeout(LONG).unwrap();
    let logs = &request["resourceLogs"][0];
    let service = json!({"key": "service.name", "value": {"stringValue": "portguard"}});
    assert_eq!(logs["resource"]["attributes"][0], service);
    let record = &logs["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["timeUnixNano"], "1767323045678901234");
    assert_eq!(record["severityNumber"], 13);
    assert_eq!(
        record["body"]["stringValue"],
        "deny tcp/80 127.0.0.1 by alice(1000) as 0 ncat[4242] in /user.slice: rule web, EACCES, x12"
    );
    let attributes = record["attributes"].as_array().unwrap();
    for (key, value) in [
        ("port", json!({"intValue": "80"})),
        ("verdict", json!({"stringValue": "deny"})),
        ("enforced", json!({"boolValue": true})),
        ("count", json!({"intValue": "12"})),
    ] {
        let attribute = json!({"key": format!("portguard.{key}"), "value": value});
        assert!(attributes.contains(&attribute), "{attribute}: {record}");
    }
    sinks.close(LONG);
    assert_eq!(sinks.dropped()["otlp"], 0);
}

#[test]
fn otlp_sink_batches() {
    let (address, requests) = collector(200, "");
    let mut sinks = open(sink(address));
    for _ in 0..2_000 {
        sinks.send(&decided(80, 1));
    }
    sinks.close(LONG);
    assert_eq!(sinks.dropped()["otlp"], 0);
    let sizes: Vec<usize> = requests
        .try_iter()
        .map(|request| {
            let records = &request["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
            records.as_array().unwrap().len()
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 2_000);
    assert!(sizes.iter().all(|size| *size <= 256), "{sizes:?}");
    assert!(sizes.len() < 1_000, "{sizes:?}");
}

#[test]
fn otlp_sink_counts_refused_records() {
    for (status, answer, lost) in [
        (503, "", 5),
        (302, "", 5),
        (
            200,
            r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"no"}}"#,
            1,
        ),
    ] {
        let (address, _requests) = collector(status, answer);
        let mut sinks = open(sink(address));
        sinks.send(&decided(80, 5));
        sinks.close(LONG);
        assert_eq!(sinks.dropped()["otlp"], lost, "{status}");
    }
}

#[test]
fn otlp_sink_counts_missing_collector() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut sinks = open(sink(address));
    sinks.send(&decided(80, 5));
    sinks.close(LONG);
    assert_eq!(sinks.dropped()["otlp"], 5);
}
