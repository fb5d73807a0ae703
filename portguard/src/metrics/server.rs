//! The HTTP end: `GET /metrics`, one answer a connection.

use super::text::{CONTENT_TYPE, render};
use crate::control::{PendingRequest, Reply, Request as Asked};
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
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the daemon may take to tell how it stands.
const ANSWER: Duration = Duration::from_secs(5);

/// After an error that will not pass by itself at once, as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// What a client's request and its headers may take.
const REQUEST: usize = 16 << 10;

/// Why there are no metrics.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The address cannot be had.
    #[error(
        "--metrics {address}: cannot listen there: {source}; give an address of this host and a free port"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Listens for scrapes.
///
/// # Errors
/// Where the address is taken or not this host's.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| MetricsError::Listen { address, source })
}

/// Answers scrapes with what the daemon's loop says when asked over `asks`; never ends. To be spawned on the
/// daemon's runtime.
pub async fn serve(listener: TcpListener, asks: mpsc::Sender<PendingRequest>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut failing = false;
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                let asks = asks.clone();
                tokio::spawn(async move {
                    // Too slow or broken off: the client's own loss.
                    let _ = timeout(PATIENCE, converse(stream, asks)).await;
                    drop(place);
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !failing {
                    log_line!("portguard: metrics: cannot accept a connection: {error}; trying on");
                }
                failing = true;
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, asks: mpsc::Sender<PendingRequest>) -> hyper::Result<()> {
    let service = service_fn(|request| respond(request, &asks));
    hyper::server::conn::http1::Builder::new()
        // A client that scrapes twice a minute need not hold one of few places in between.
        .keep_alive(false)
        // `PATIENCE` stands for all of them.
        .header_read_timeout(None)
        .max_buf_size(REQUEST)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(
    request: Request<Incoming>,
    asks: &mpsc::Sender<PendingRequest>,
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
    Ok(match timeout(ANSWER, status(asks)).await {
        Ok(Some(status)) => answer(StatusCode::OK, CONTENT_TYPE, render(&status).into()),
        Ok(None) => plain(StatusCode::SERVICE_UNAVAILABLE, "portguard is ending\n"),
        Err(_) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "portguard is too busy to answer: try again\n",
        ),
    })
}

/// How the daemon stands; `None` where it no longer says.
async fn status(asks: &mpsc::Sender<PendingRequest>) -> Option<Status> {
    let (answer, reply) = oneshot::channel();
    let request = Asked::Status;
    asks.send(PendingRequest { request, answer }).await.ok()?;
    match reply.await.ok()? {
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
