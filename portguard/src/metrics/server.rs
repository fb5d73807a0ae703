//! The HTTP end: `GET /metrics`, one answer a connection.

use super::text::{CONTENT_TYPE, render};
use crate::control::{PendingRequest, Reply, Request as ControlRequest};
use crate::status::Status;
use crate::stderr::log_line;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE as TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// Connections at once; others wait in the kernel's backlog.
const CONNECTIONS: usize = 8;

/// How long a connection may take, from its first byte to its last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the daemon may take to reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait after a failed accept, such as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of a request and its headers, at most.
const REQUEST: usize = 16 << 10;

/// Why metrics cannot be served.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The address is not available.
    #[error(
        "--metrics {address}: cannot listen there: {source}; give an address of this host and a free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// Listens for scrapes.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| MetricsError::Listen { address, source })
}

/// Answers scrapes with the daemon's status; never ends.
pub async fn serve(listener: TcpListener, requests: mpsc::Sender<PendingRequest>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut failing = false;
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                let requests = requests.clone();
                tokio::spawn(async move {
                    // A client that is too slow or disconnects gets no reply.
                    let _ = timeout(CONNECTION_TIMEOUT, converse(stream, requests)).await;
                    drop(permit);
                });
            }
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

async fn converse(stream: TcpStream, requests: mpsc::Sender<PendingRequest>) -> hyper::Result<()> {
    let service = service_fn(|request| respond(request, &requests));
    hyper::server::conn::http1::Builder::new()
        // A client that scrapes twice a minute must not hold one of few connections in between.
        .keep_alive(false)
        // `CONNECTION_TIMEOUT` covers the headers too.
        .header_read_timeout(None)
        .max_buf_size(REQUEST)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(
    request: Request<Incoming>,
    requests: &mpsc::Sender<PendingRequest>,
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
        Ok(Some(status)) => answer(StatusCode::OK, CONTENT_TYPE, render(&status).into()),
        Ok(None) => plain(StatusCode::SERVICE_UNAVAILABLE, "portguard is ending\n"),
        Err(_) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "portguard is too busy to answer: try again\n",
        ),
    })
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
    response.headers_mut().insert(TYPE, kind);
    response
}
