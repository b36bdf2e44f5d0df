//! An SMTP server on loopback that keeps what it is sent (RFC 5321, as far as a mail needs it).

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A mail as it came.
#[derive(Debug, Clone)]
pub struct Mail {
    pub to: String,
    /// Headers and body, lines joined and quoted-printable undone.
    pub text: String,
}

/// The server; it ends with the test.
pub struct Sink {
    pub url: String,
    mails: Arc<watch::Sender<Vec<Mail>>>,
}

impl Sink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("smtp://{}", listener.local_addr().expect("an address"));
        let mails = Arc::new(watch::channel(Vec::new()).0);
        let kept = mails.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, kept.clone()));
            }
        });
        Self { url, mails }
    }

    pub fn count(&self) -> usize {
        self.mails.borrow().len()
    }

    /// The first mail to somebody that says so, after as many as were counted before; when it has come.
    pub async fn mail(&self, before: usize, to: &str, says: &str) -> Mail {
        let find = |mails: &Vec<Mail>| {
            let fits = |mail: &&Mail| mail.to == to && mail.text.contains(says);
            mails.iter().skip(before).find(fits).cloned()
        };
        let mut mails = self.mails.subscribe();
        let come = mails.wait_for(|mails| find(mails).is_some());
        let come = tokio::time::timeout(std::time::Duration::from_secs(10), come).await.expect("a mail comes");
        find(&come.expect("the sink runs")).expect("it has come")
    }
}

async fn receive(stream: TcpStream, mails: Arc<watch::Sender<Vec<Mail>>>) -> Option<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 sink\r\n").await.ok()?;
    let mut to = String::new();
    while let Some(line) = lines.next_line().await.ok()? {
        let answer: &[u8] = match line.get(..4).unwrap_or(&line).to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" => b"250 sink\r\n",
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                b"250 ok\r\n"
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await.ok()?;
                let mut text = String::new();
                while let Some(line) = lines.next_line().await.ok()?.filter(|line| line != ".") {
                    text.push_str(&line);
                    text.push('\n');
                }
                let text = text.replace("=\n", "").replace("=3D", "=");
                mails.send_modify(|mails| mails.push(Mail { to: to.clone(), text }));
                b"250 kept\r\n"
            }
            "QUIT" => return writer.write_all(b"221 bye\r\n").await.ok(),
            _ => b"250 ok\r\n",
        };
        writer.write_all(answer).await.ok()?;
    }
    Some(())
}
