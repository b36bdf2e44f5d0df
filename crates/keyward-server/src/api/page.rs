//! Pages of lists, as they are asked for and answered.

use keyward::page::{Page, PageRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// A part of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the next part; null at the end.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    pub fn of<U>(page: Page<U>, show: impl FnMut(U) -> T) -> axum::Json<Self> {
        let page = page.map(show);
        axum::Json(Self { items: page.items, next_cursor: page.next_cursor })
    }

    /// A list that is never longer than one answer.
    pub fn whole<U>(items: Vec<U>, show: impl FnMut(U) -> T) -> axum::Json<Self> {
        axum::Json(Self { items: items.into_iter().map(show).collect(), next_cursor: None })
    }
}

/// A list without filters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// 1–200, 50 when absent.
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}

impl PageParams {
    pub fn read(&self) -> Result<PageRequest, Problem> {
        Ok(PageRequest::new(self.limit, self.cursor.as_deref())?)
    }
}
