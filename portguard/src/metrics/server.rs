//! The HTTP end: `GET /metrics`, one answer a connection.

use super::connections::{Connections, Place};
use super::listener::{Listener, Stream};
use super::negotiation::{exposition, gzip, takes_gzip};
use super::rules::MetricsRules;
use super::text::render;
use crate::control::{PendingRequest, Reply, Request as ControlRequest};
use crate::status::Status;
use crate::stderr::log_line;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// How long a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection may take, from its first byte to its last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the daemon may take to reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait after a failed accept, such as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of a request and its headers, at most.
const REQUEST: usize = 16 << 10;

/// Answers scrapes with the daemon's status; never ends.
pub async fn serve(
    listener: Listener,
    requests: mpsc::Sender<PendingRequest>,
    rules: MetricsRules,
) {
    let connections = Connections::default();
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok(Some((stream, client))) => {
                failing = false;
                let place = connections.admit(client);
                let id = place.id();
                let requests = requests.clone();
                let task = match stream {
                    Stream::Tcp(stream) => tokio::spawn(converse(stream, requests, rules, place)),
                    Stream::Unix(stream) => tokio::spawn(converse(stream, requests, rules, place)),
                };
                connections.set_task(id, task.abort_handle());
                // What was closed for it gives its descriptor back before the next one takes another.
                yield_now().await;
            }
            Ok(None) => failing = false,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !failing {
                    log_line!(
                        "portguard: metrics: cannot accept a connection: {error}; will retry"
                    );
                }
                failing = true;
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    requests: mpsc::Sender<PendingRequest>,
    rules: MetricsRules,
    place: Place,
) {
    let service = service_fn(|request| {
        place.has_request();
        respond(request, &requests, rules)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // A client that scrapes twice a minute must not hold one of few connections in between.
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    // A client that is too slow or disconnects gets no reply.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

async fn respond(
    request: Request<Incoming>,
    requests: &mpsc::Sender<PendingRequest>,
    rules: MetricsRules,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(
            StatusCode::NOT_FOUND,
            "the metrics are at /metrics\n",
        ));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allow = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allow);
        return Ok(refusal);
    }
    Ok(match timeout(REPLY_TIMEOUT, status(requests)).await {
        Ok(Some(status)) => scraped(&status, rules, request.headers()),
        Ok(None) => plain(StatusCode::SERVICE_UNAVAILABLE, "portguard is ending\n"),
        Err(_) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "portguard is too busy to answer: try again\n",
        ),
    })
}

/// The metrics, in the form that the request asks for.
fn scraped(status: &Status, rules: MetricsRules, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let exposition = exposition(headers);
    let text = render(status, rules, exposition);
    let compressed = if takes_gzip(headers) {
        gzip(&text)
    } else {
        None
    };
    let is_compressed = compressed.is_some();
    let body = compressed.unwrap_or_else(|| text.into_bytes());
    let mut response = answer(StatusCode::OK, exposition.content_type(), body.into());
    let headers = response.headers_mut();
    if is_compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    response
}

/// The daemon's status; `None` where it is ending.
async fn status(requests: &mpsc::Sender<PendingRequest>) -> Option<Status> {
    let (reply, replied) = oneshot::channel();
    let request = ControlRequest::Status;
    requests
        .send(PendingRequest { request, reply })
        .await
        .ok()?;
    match replied.await.ok()? {
        Reply::Status(status) => Some(*status),
        _ => None,
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
