//! Watching a job: what is new of it, as it comes. Jobs of this node tell at once; those of others are re-read.

use std::collections::VecDeque;
use std::time::Duration;

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use tokio::sync::watch as channel;
use tokio::time::timeout;

use super::{Job, Jobs, sql as statements};
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::Result;

/// How often the job of another node is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

row! {
    /// A line that a job told.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Line {
        pub number: i64,
        pub told_at: Timestamp,
        pub message: String,
    }
}

/// Something new of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobNews {
    Status(Box<Job>),
    Progress(Box<Job>),
    Line(Line),
}

/// A job and what was seen of it already.
pub struct Watched {
    jobs: Jobs,
    id: Id<id::Job>,
    seen: Option<Job>,
    last_line: i64,
    news: channel::Receiver<u64>,
    untold: VecDeque<JobNews>,
}

impl Jobs {
    /// Everything that a job told so far.
    pub async fn log(&self, context: &Context, id: Id<id::Job>) -> Result<Vec<Line>> {
        self.get(context, id).await?;
        Ok(sql(statements::LINES).bind(id).bind(0i64).all(&self.ground.db).await?)
    }

    /// Watches a job from its present state on.
    pub async fn watch(&self, context: &Context, id: Id<id::Job>) -> Result<Watched> {
        self.get(context, id).await?;
        let news = self.news.subscribe();
        Ok(Watched { jobs: self.clone(), id, seen: None, last_line: 0, news, untold: VecDeque::new() })
    }
}

impl Watched {
    /// The next piece of news; `None` after the job's end was told. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<JobNews>> {
        loop {
            if let Some(news) = self.untold.pop_front() {
                return Ok(Some(news));
            }
            if self.seen.as_ref().is_some_and(Job::is_finished) {
                return Ok(None);
            }
            if self.seen.is_some() {
                // Nothing new here within the time: perhaps on another node.
                let _ = timeout(LOOK_EVERY, self.news.changed()).await;
            }
            self.look().await?;
        }
    }

    async fn look(&mut self) -> Result<()> {
        self.news.borrow_and_update();
        let db = &self.jobs.ground.db;
        let job = self.jobs.row(self.id).await?;
        let lines: Vec<Line> = sql(statements::LINES).bind(self.id).bind(self.last_line).all(db).await?;
        self.last_line = lines.last().map_or(self.last_line, |line| line.number);
        let was = self.seen.as_ref();
        let begins = was.is_none_or(|was| was.status != job.status) && !job.is_finished();
        let moved = was.is_none_or(|was| (was.done, was.total) != (job.done, job.total)) && job.total.is_some();
        if begins {
            self.untold.push_back(JobNews::Status(Box::new(job.clone())));
        }
        self.untold.extend(lines.into_iter().map(JobNews::Line));
        if moved {
            self.untold.push_back(JobNews::Progress(Box::new(job.clone())));
        }
        if job.is_finished() {
            self.untold.push_back(JobNews::Status(Box::new(job.clone())));
        }
        self.seen = Some(job);
        Ok(())
    }
}
