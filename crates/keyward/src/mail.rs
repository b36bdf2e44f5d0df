//! Mail: by SMTP where a server is set, else written to the log. Sent beside the request, so that nobody learns from the time
//! that an answer takes whether a mail was sent. A mail that three tries do not bring off is told in the log and given up.

use std::time::Duration;

use keyward_core::problem::Code;
use lettre::message::{Mailbox, header::ContentType};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::config::MailSettings;
use crate::error::{Error, Result};

const TRIES: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_secs(10);

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

    /// Sends a text to one person, soon.
    pub fn send(&self, to: &str, subject: &str, text: &str) {
        let Some(smtp) = self.smtp.clone() else {
            tracing::info!(target: "keyward::mail", to, subject, text, "no SMTP server is set; the mail stands only here");
            return;
        };
        let message = to.parse().map_err(|error| format!("{error}")).and_then(|to| {
            let message = Message::builder().from(self.from.clone()).to(to).subject(subject);
            message.header(ContentType::TEXT_PLAIN).body(text.to_owned()).map_err(|error| error.to_string())
        });
        let subject = subject.to_owned();
        tokio::spawn(async move {
            let message = match message {
                Ok(message) => message,
                Err(error) => return tracing::error!(subject, error, "a mail could not be written"),
            };
            for attempt in 1..=TRIES {
                match smtp.send(message.clone()).await {
                    Ok(_) => return,
                    Err(error) if attempt < TRIES => {
                        tracing::warn!(subject, %error, "a mail was not taken; it is tried again")
                    }
                    Err(error) => return tracing::error!(subject, %error, "a mail was not taken"),
                }
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
        });
    }
}
