//! Mail: by SMTP where a server is set, else written to the log. What waits, and what becomes of a mail that is not taken, is
//! not known here.

use keyward_core::problem::Code;
use lettre::message::{Mailbox, header::ContentType};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde::{Deserialize, Serialize};

use crate::config::MailSettings;
use crate::error::{Error, Result};

/// A text to one person.
#[derive(Serialize, Deserialize)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
}

/// Sends mail.
pub struct Mailer {
    from: Mailbox,
    /// `None`: to the log.
    smtp: Option<AsyncSmtpTransport<Tokio1Executor>>,
}

impl Mailer {
    pub(crate) fn new(settings: &MailSettings) -> Result<Self> {
        let wrong = |setting: &str, error: String| Error::new(Code::NotReady, format!("mail.{setting}: {error}"));
        let from = settings.from.parse().map_err(|error| wrong("from", format!("{error}")))?;
        let smtp = match settings.smtp_url.as_str() {
            "" => None,
            url => {
                let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url);
                Some(transport.map_err(|error| wrong("smtp_url", error.to_string()))?.build())
            }
        };
        Ok(Self { from, smtp })
    }

    /// Whether the server takes a connection, and the name and password with it; `None` where no server is set.
    pub(crate) async fn greet(&self) -> Option<Result<(), String>> {
        match self.smtp.as_ref()?.test_connection().await {
            Ok(true) => Some(Ok(())),
            Ok(false) => Some(Err("it ended the connection".to_owned())),
            Err(error) => Some(Err(error.to_string())),
        }
    }

    /// Sends a text to one person, now; says why it was not taken.
    pub async fn send(&self, mail: &Mail) -> Result<(), String> {
        let Mail { to, subject, text } = mail;
        let Some(smtp) = &self.smtp else {
            tracing::info!(target: "keyward::mail", to, subject, text, "no SMTP server is set; the mail stands only here");
            return Ok(());
        };
        let to = to.parse().map_err(|error| format!("{error}"))?;
        let message = Message::builder().from(self.from.clone()).to(to).subject(subject);
        let message = message.header(ContentType::TEXT_PLAIN).body(text.clone()).map_err(|error| error.to_string())?;
        smtp.send(message).await.map(|_| ()).map_err(|error| error.to_string())
    }
}
