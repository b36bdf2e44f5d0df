//! The floor that forward-auth is measured against: hyper alone, one worker thread, the same answer to every request.
//!
//! It reads no body and routes nothing. Its 204 can carry one header as long as all those of a forward-auth answer, so
//! that both servers write the same number of bytes.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use http_body_util::Empty;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const FILLER: HeaderName = HeaderName::from_static("x-filler");
/// What is written besides the filler's value: status line, its name, date, empty line.
const OTHER_BYTES: usize = 25 + 12 + 37 + 2;

#[derive(Parser)]
#[command(about = "Answers every request with the same 204")]
struct Options {
    /// Where to listen; the address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Size of the whole answer; a bare 204 when that is too little for a filling header.
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
    let filler = match options.answer_bytes.checked_sub(OTHER_BYTES) {
        Some(count) => Some(HeaderValue::from_maybe_shared(Bytes::from(vec![b'.'; count]))?),
        None => None,
    };
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let filler = filler.clone();
        let service = service_fn(move |_| std::future::ready(answer(filler.clone())));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn answer(filler: Option<HeaderValue>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(filler) = filler {
        response.headers_mut().insert(FILLER, filler);
    }
    Ok(response)
}
