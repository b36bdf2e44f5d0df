//! The floor that forward-auth is measured against: hyper alone, one worker thread, the same answer to every request.
//!
//! It reads no body and routes nothing. Its answer can be given a size, so that both servers write the same number of
//! bytes.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What hyper writes around a body of three digits' length: status line, content-length, date, empty line.
const HEAD_BYTES: usize = 77;

#[derive(Parser)]
#[command(about = "Answers every request with the same few bytes")]
struct Options {
    /// Where to listen; the address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Size of the whole answer, head included; one without room for a body is a bare 204.
    #[arg(long, default_value_t = 0)]
    answer_bytes: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async { tokio::spawn(serve(options)).await? })
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen).await.context("cannot listen")?;
    println!("{}", listener.local_addr()?);
    let body = Bytes::from(vec![b'.'; options.answer_bytes.saturating_sub(HEAD_BYTES)]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        let service = service_fn(move |_| std::future::ready(answer(body.clone())));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn answer(body: Bytes) -> Result<Response<Full<Bytes>>, Infallible> {
    let status = if body.is_empty() { StatusCode::NO_CONTENT } else { StatusCode::OK };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}
