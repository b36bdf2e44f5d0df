//! JSON lines by HTTP POST, to anything that takes them.

use keyward_core::time::Clock;

use super::http::Post;
use super::{Line, Taken, Trouble};
use crate::config::SinkSettings;
use crate::error::Result;

pub struct JsonLines(Post);

impl JsonLines {
    pub fn open(settings: &SinkSettings, clock: &Clock) -> Result<Self> {
        let post = Post::open(settings, "", "application/x-ndjson", clock)?;
        Ok(Self(match settings.token.as_str() {
            "" => post,
            token => post.authorized(&format!("Bearer {token}"), token),
        }))
    }

    pub async fn send(&self, lines: &[Line]) -> Result<Taken, Trouble> {
        let body = lines.iter().fold(String::new(), |body, line| body + line.text.get() + "\n");
        self.0.send(body).await?;
        Ok(Taken::default())
    }
}
