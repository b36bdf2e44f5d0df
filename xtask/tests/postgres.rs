//! The server that serves the tests, tested itself.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use xtask::packages::postgres_program;
use xtask::postgres::Server;

#[test]
fn a_server_answers_and_leaves_nothing_behind() {
    let server = Server::start().expect("PostgreSQL starts");
    let port = server.port();
    let mut psql = Command::new(postgres_program("psql").expect("psql"));
    let asked = psql.args(["-tAX", "-c", "SHOW data_directory", server.url()]).output().expect("psql");
    let data = PathBuf::from(String::from_utf8(asked.stdout).expect("a path").trim());
    assert!(data.ends_with("data") && data.exists(), "{data:?} {}", String::from_utf8_lossy(&asked.stderr));

    drop(server);
    assert!(!data.parent().expect("a folder").exists(), "the folder is gone");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens");
}
