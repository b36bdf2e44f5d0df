//! The script that decides about limits in Redis, called by a client that does nothing else: what Redis, the network and the
//! driver cost when nobody verifies a key.

use std::time::{Duration, Instant};

use anyhow::Result;
use keyward_core::limit::{LimitRule, grain};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Script, ScriptInvocation};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::machine;

/// The very script of the server.
const SCRIPT: &str = include_str!("../../crates/keyward/src/limits/shared/exact.lua");
/// So that it shares nothing with what Keyward counts.
const PREFIX: &str = "bare";
const PATIENCE: Duration = Duration::from_secs(10);

/// A client with the limits of one organization and of many keys.
pub struct BareScript {
    runtime: Runtime,
    connection: MultiplexedConnection,
    script: Script,
    keys: u64,
    /// What is drawn on by a call: the key's own limit, then the organization's.
    rules: [LimitRule; 2],
}

impl BareScript {
    pub fn connect(url: &str, keys: usize, rules: [LimitRule; 2]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let client = Client::open(url)?;
        let connection = runtime.block_on(client.get_multiplexed_async_connection_with_config(&config))?;
        Ok(Self { runtime, connection, script: Script::new(SCRIPT), keys: keys as u64, rules })
    }

    /// Decisions a second, with so many callers that each wait for their answer, from the core where servers run.
    pub fn run(&self, callers: usize, time: Duration) -> Result<f64> {
        machine::pin(machine::SERVER_CORE)?;
        let speed = self.call_for(callers, time);
        machine::pin(machine::LOAD_CORE)?;
        speed
    }

    fn call_for(&self, callers: usize, time: Duration) -> Result<f64> {
        let start = Instant::now();
        let work = async |caller: usize| {
            let (mut connection, mut done) = (self.connection.clone(), 0u64);
            let mut dice = 0x9E37_79B9_7F4A_7C15 ^ (caller as u64 + 1);
            while start.elapsed() < time {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                self.call((dice >> 33) % self.keys).invoke_async::<Vec<i64>>(&mut connection).await?;
                done += 1;
            }
            anyhow::Ok(done)
        };
        let calls = futures_util::future::try_join_all((0..callers).map(work));
        let done: u64 = LocalSet::new().block_on(&self.runtime, calls)?.into_iter().sum();
        Ok(done as f64 / start.elapsed().as_secs_f64())
    }

    /// As the server asks: shift of the clock, dry run, then each limit.
    fn call(&self, key: u64) -> ScriptInvocation<'_> {
        let mut call = self.script.prepare_invoke();
        call.arg(0).arg(0);
        for (rule, number) in self.rules.iter().zip([key + 1, 0]) {
            let id = u128::from(number) << 64 | u128::from(number);
            call.key(format!("{PREFIX}:{{{id:032x}}}:marks")).key(format!("{PREFIX}:{{{id:032x}}}:costs"));
            let window = rule.window_micros();
            call.arg(window).arg(grain(rule.limit, window)).arg(rule.ceiling()).arg(1).arg(1);
        }
        call
    }
}
