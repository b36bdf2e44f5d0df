//! The real binary as a process of its own, for tests that end it, with a warning or without, or bind it to a core.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Place;

/// The real binary, killed when dropped.
pub struct Process {
    child: Child,
    pub url: String,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyward");

fn keyward() -> Command {
    prepared(Command::new(PROGRAM))
}

/// The same, bound to one of the cores that it may have.
fn keyward_on_one_core() -> Command {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of a process");
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("its cores");
    let first = cores.trim().split([',', '-']).next().expect("one at least");
    let mut command = Command::new("/usr/bin/taskset");
    command.args(["--cpu-list", first, PROGRAM]);
    prepared(command)
}

fn prepared(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stderr(Stdio::null()).env_clear();
    // Thousands of changes in a few seconds are what this is about.
    command
        .env("KEYWARD_CALLER_LIMITS_CREATE_PER_MINUTE", "1000000")
        .env("KEYWARD_CALLER_LIMITS_REVOKE_PER_MINUTE", "1000000");
    command
}

fn place_flags(place: &Place) -> Vec<String> {
    let mut flags = vec!["--data-dir".to_owned(), place.folder().to_string_lossy().into_owned()];
    flags.extend(place.database_url().map(|url| ["--database-url".to_owned(), url.to_owned()]).into_iter().flatten());
    flags
}

impl Process {
    /// Starts the server with further settings, each a variable and its value.
    pub fn start(place: &Place, settings: &[(&str, &str)]) -> Self {
        Self::start_logging(place, settings, Stdio::null())
    }

    /// The same, its log going where the caller says.
    pub fn start_logging(place: &Place, settings: &[(&str, &str)], log: Stdio) -> Self {
        Self::serve(keyward().stderr(log).envs(settings.iter().copied()), place)
    }

    /// Starts the server where it has one core.
    pub fn start_on_one_core(place: &Place) -> Self {
        Self::serve(&mut keyward_on_one_core(), place)
    }

    fn serve(command: &mut Command, place: &Place) -> Self {
        let mut child = command
            .arg("serve")
            .args(place_flags(place))
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("keyward starts");
        let stdout = child.stdout.take().expect("a pipe");
        let line = BufReader::new(stdout).lines().map_while(Result::ok).find(|line| line.contains("running at"));
        let line = line.expect("it says where it runs");
        let url = line.split_whitespace().find(|word| word.starts_with("http")).expect("an address").to_owned();
        Self { child, url }
    }

    /// What it logs, when that goes into a pipe. Read it: a full pipe holds the server up.
    pub fn log(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("a pipe")
    }

    /// As whoever stops it in order does; answers whether it ended well.
    pub fn stop(mut self) -> bool {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("SIGTERM");
        self.child.wait().expect("it is gone").success()
    }

    /// As a crash does: no time for anything.
    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("it is gone");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sets the instance up and answers its service key.
pub fn set_up(place: &Place) -> String {
    let output = keyward()
        .arg("setup")
        .args(place_flags(place))
        .args(["--email", "owner@example.com", "--organization", "Acme"])
        .output()
        .expect("keyward runs");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    told["service_key"].as_str().expect("a service key").to_owned()
}
