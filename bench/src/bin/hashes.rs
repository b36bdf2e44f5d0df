//! The floor that sign-ins are measured against: Argon2id alone, with the parameters of a stored hash, on as many threads as
//! Keyward hashes on. Prints how many passwords were checked in a second.

use std::time::{Duration, Instant};

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};
use clap::Parser;

/// `people.concurrent_hashes` of Keyward, on no more cores than there are.
const MOST_THREADS: usize = 2;
const PASSWORD: &[u8] = b"four quiet river stones";

#[derive(Parser)]
#[command(about = "Checks a password again and again")]
struct Options {
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // Keyward's default parameters are the crate's.
    let stored = Argon2::default().hash_password(PASSWORD).map_err(|error| anyhow::anyhow!("{error}"))?.to_string();
    let (start, time) = (Instant::now(), Duration::from_secs(options.seconds));
    let check = || {
        let hash = PasswordHash::new(&stored).expect("a hash");
        let mut count = 0u64;
        while start.elapsed() < time {
            Argon2::default().verify_password(PASSWORD, &hash).expect("the password is right");
            count += 1;
        }
        count
    };
    let threads = std::thread::available_parallelism()?.get().min(MOST_THREADS);
    let count: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(check)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread ends well")).sum()
    });
    println!("{}", count as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
