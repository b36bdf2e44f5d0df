//! Statements S-12 to S-17 over a random history: clients of several people refresh at the same time, lose answers and ask
//! again, while nodes are closed and opened, the clock jumps, passwords and roles change, accounts close, and a thief tries
//! tokens of before. What each call must answer follows from a model of ten lines (`Family::expect`); every answer is checked
//! against it, and at the end the whole history once more. The seed is printed; `KEYWARD_TEST_SEED` repeats a history.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use keyward::context::Context;
use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::people::{PASSWORD, log_in, me, pair, person, refresh, with};
use crate::sessions::claims;
use crate::support::{Answer, Backend, Node};

const PEOPLE: usize = 3;
const SESSIONS_OF_EACH: usize = 2;
const STEPS: usize = 140;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// One session as it must be: its tokens in order, and what the server may know of their use.
struct Family {
    owner: usize,
    /// The token of generation n stands at n - 1.
    tokens: Vec<String>,
    access: Vec<String>,
    /// What the honest client holds: a place in `tokens`.
    held: usize,
    is_confirmed: bool,
    refreshed_at: i64,
    ends_at: i64,
    is_alive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Successor,
    Reuse,
    Invalid,
}

impl Family {
    /// What a refresh with the token at a place must answer.
    fn expect(&self, place: usize, now: i64) -> Expected {
        let newest = self.tokens.len() - 1;
        let is_at_once = self.refreshed_at + 10 > now;
        if !self.is_alive || self.ends_at <= now || self.refreshed_at + 7 * DAY <= now {
            Expected::Invalid
        } else if place == newest || place + 1 == newest && (is_at_once || !self.is_confirmed) {
            Expected::Successor
        } else {
            Expected::Reuse
        }
    }

    /// Checks answers to the same token, given at the same time, and takes over what they tell.
    fn take(&mut self, place: usize, now: i64, answers: &[Answer], told: &str) {
        let expected = self.expect(place, now);
        let codes: Vec<&str> = answers.iter().map(Answer::code).collect();
        match expected {
            Expected::Invalid => assert!(codes.iter().all(|code| *code == "invalid_token"), "{told}: {codes:?}"),
            Expected::Reuse => {
                assert_eq!(codes.iter().filter(|code| **code == "refresh_reuse").count(), 1, "{told}: {codes:?}");
                self.is_alive = false;
            }
            Expected::Successor => {
                assert!(answers.iter().all(|answer| answer.status == 200), "{told}: {codes:?}");
                let successors: HashSet<String> = answers.iter().map(|answer| pair(answer).1).collect();
                assert_eq!(successors.len(), 1, "{told}: two branches");
                let successor = successors.into_iter().next().expect("one");
                if place + 1 == self.tokens.len() {
                    self.tokens.push(successor);
                    self.refreshed_at = self.refreshed_at.max(now);
                    self.is_confirmed = false;
                } else {
                    assert_eq!(successor, self.tokens[place + 1], "{told}: another branch");
                    self.refreshed_at = if self.refreshed_at + 10 > now { self.refreshed_at } else { now };
                }
                self.access.extend(answers.iter().map(|answer| pair(answer).0));
            }
        }
    }
}

/// The history so far, and the nodes that make it.
struct History {
    random: StdRng,
    nodes: Vec<Node>,
    people: Vec<Id<id::User>>,
    families: Vec<Family>,
    has_role: Vec<bool>,
}

fn email(owner: usize) -> String {
    format!("person{owner}@example.com")
}

async fn list_keys(node: &Node, access: &str) -> Answer {
    with(node, access, Method::GET, "/v1/api-keys", Value::Null).await
}

/// A change comes to every node (statement S-05). That it takes a second at most is shown in `nodes.rs`; here a busy machine gets
/// more, since the history is about what holds and not about how soon.
async fn soon(is_so: impl AsyncFn() -> bool) {
    let wait = async {
        let mut tries = tokio::time::interval(Duration::from_millis(5));
        while !is_so().await {
            tries.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("soon");
}

impl History {
    fn now(&self) -> i64 {
        self.nodes[0].app.keyward.clock.now().as_seconds()
    }

    fn node(&mut self) -> usize {
        self.random.random_range(0..self.nodes.len())
    }

    async fn sign_in(&mut self, owner: usize) {
        let node = self.node();
        let answer = log_in(&self.nodes[node], &email(owner), PASSWORD).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let ((access, refresh), now) = (pair(&answer), self.now());
        self.families.push(Family {
            owner,
            tokens: vec![refresh],
            access: vec![access],
            held: 0,
            is_confirmed: false,
            refreshed_at: now,
            ends_at: now + 30 * DAY,
            is_alive: true,
        });
    }

    /// Every client at once: each sends what it holds one to four times, to any node. Some lose every answer.
    async fn refresh_all(&mut self, told: &str) {
        let now = self.now();
        let mut calls = Vec::new();
        for (index, family) in self.families.iter().enumerate() {
            let count = self.random.random_range(1..=4);
            let nodes: Vec<usize> = (0..count).map(|_| self.random.random_range(0..self.nodes.len())).collect();
            calls.push((index, family.tokens[family.held].clone(), nodes));
        }
        let nodes = &self.nodes;
        let answers = join_all(calls.into_iter().map(|(index, token, places)| async move {
            let each = places.into_iter().map(|place| refresh(&nodes[place], &token));
            (index, join_all(each).await)
        }))
        .await;
        for (index, answers) in answers {
            let is_lost = self.random.random_bool(0.3);
            let family = &mut self.families[index];
            let place = family.held;
            family.take(place, now, &answers, &format!("{told}, session {index}"));
            if !is_lost && answers[0].status == 200 {
                family.held = place + 1;
            }
        }
    }

    /// A client uses an access token that it got: any of them, for an older one is good until it runs out.
    async fn use_access(&mut self, told: &str) {
        let (now, node) = (self.now(), self.node());
        let index = self.random.random_range(0..self.families.len());
        let family = &self.families[index];
        // What was lost in transit, nobody uses.
        let newest_held = family.held as i64 + 1;
        let held: Vec<&String> = family
            .access
            .iter()
            .filter(|access| claims(access)["gen"].as_i64().expect("a number") <= newest_held)
            .collect();
        let access = (*held.choose(&mut self.random).expect("the first")).clone();
        let said = claims(&access);
        let is_good = family.is_alive && said["exp"].as_i64().expect("a number") > now && family.ends_at > now;
        let answer = list_keys(&self.nodes[node], &access).await;
        let wanted = match (is_good, self.has_role[family.owner]) {
            (false, _) => 401,
            (true, true) => 200,
            (true, false) => 403,
        };
        assert_eq!(answer.status, wanted, "{told}, session {index}: {answer:?}");
        if is_good {
            self.confirm(index, &access);
        }
    }

    /// Somebody has a copy of a token of before.
    async fn steal(&mut self, told: &str) {
        let (now, node) = (self.now(), self.node());
        let index = self.random.random_range(0..self.families.len());
        let place = self.random.random_range(0..self.families[index].tokens.len());
        // What the client itself holds would look like the client.
        if place >= self.families[index].held {
            return;
        }
        let answer = refresh(&self.nodes[node], &self.families[index].tokens[place].clone()).await;
        let was_alive = self.families[index].is_alive;
        self.families[index].take(place, now, &[answer], &format!("{told}, session {index}, token {place}"));
        if was_alive && !self.families[index].is_alive {
            self.settle(&[index]).await;
        }
    }

    async fn close_and_open(&mut self) {
        let index = self.node();
        let opened = self.nodes[index].join(self.nodes[index].place.clone(), |_| {}).await;
        std::mem::replace(&mut self.nodes[index], opened).stop().await;
    }

    /// A session of somebody that is in force, and an access token of it that its client holds and that is good now.
    fn in_force(&self, owner: usize) -> Option<(usize, String)> {
        let (now, number) = (self.now(), |access: &str, claim: &str| claims(access)[claim].as_i64().expect("a number"));
        let mut own = self.families.iter().enumerate().filter(|(_, family)| family.owner == owner && family.is_alive);
        own.find_map(|(index, family)| {
            let held = family.access.iter().filter(|access| number(access, "gen") <= family.held as i64 + 1);
            held.into_iter().find(|access| number(access, "exp") > now).map(|access| (index, access.clone()))
        })
    }

    /// The server has seen this access token.
    fn confirm(&mut self, index: usize, access: &str) {
        let family = &mut self.families[index];
        family.is_confirmed |= claims(access)["gen"] == json!(family.tokens.len());
    }

    /// Ends every session of a person by closing the account for a moment, or all but one by a new password.
    async fn end_all(&mut self, told: &str) {
        let owner = self.random.random_range(0..PEOPLE);
        let kept = self.in_force(owner).filter(|_| self.random.random_bool(0.5));
        if let Some((_, access)) = &kept {
            let body = json!({ "current_password": PASSWORD, "new_password": PASSWORD });
            let changed = with(&self.nodes[0], access, Method::POST, "/v1/auth/password", body).await;
            assert_eq!(changed.status, 204, "{told}: {changed:?}");
        } else if self.has_role[owner] {
            let (people, system) = (&self.nodes[0].app.keyward.people, Context::system("test"));
            let organization = self.nodes[0].organization.parse().expect("an id");
            for is_disabled in [true, false] {
                let set = people.set_disabled(&system, organization, self.people[owner], is_disabled).await;
                set.unwrap_or_else(|error| panic!("{told}: {error}"));
            }
        } else {
            // Whoever has no role here is not closed from here.
            return;
        }
        let is_kept = |index: usize| kept.as_ref().is_some_and(|(kept, _)| *kept == index);
        let own = self.families.iter_mut().enumerate().filter(|(_, family)| family.owner == owner && family.is_alive);
        let mut ended = Vec::new();
        for (index, family) in own.filter(|(index, _)| !is_kept(*index)) {
            family.is_alive = false;
            ended.push(index);
        }
        if let Some((index, access)) = kept {
            self.confirm(index, &access);
        }
        self.settle(&ended).await;
    }

    /// Takes a person's role, or gives it back.
    async fn change_role(&mut self) {
        let owner = self.random.random_range(0..PEOPLE);
        let (people, system) = (&self.nodes[0].app.keyward.people, Context::system("test"));
        let organization = Some(self.nodes[0].organization.parse().expect("an id"));
        if self.has_role[owner] {
            people.remove_role(&system, self.people[owner], organization).await.expect("a role");
        } else {
            people.assign_role(&system, self.people[owner], organization, Role::Viewer).await.expect("a role");
        }
        self.has_role[owner] ^= true;
        let Some((index, access)) = self.in_force(owner) else { return };
        let wanted = if self.has_role[owner] { 200 } else { 403 };
        for node in &self.nodes {
            soon(async || list_keys(node, &access).await.status == wanted).await;
        }
        self.confirm(index, &access);
    }

    /// What has just ended has ended on every node.
    async fn settle(&self, ended: &[usize]) {
        let now = self.now();
        let is_good = |access: &&String| claims(access)["exp"].as_i64().is_some_and(|exp| exp > now);
        for access in ended.iter().flat_map(|index| self.families[*index].access.iter().filter(is_good)) {
            for node in &self.nodes {
                soon(async || me(node, access).await == 401).await;
            }
        }
    }

    /// What must hold of the whole history, whatever happened in it.
    async fn check(&mut self) {
        let branches = "SELECT count(*) AS value FROM (SELECT session_id, generation FROM refresh_token
            GROUP BY session_id, generation HAVING count(*) > 1) AS branches";
        assert_eq!(self.nodes[0].tell(branches).await, 0, "two branches");
        for family in &self.families {
            let mut newest_of: HashMap<i64, i64> = HashMap::new();
            for access in &family.access {
                let number = |claim: &str| claims(access)[claim].as_i64().expect("a number");
                let (generation, made, until) = (number("gen"), number("iat"), number("exp"));
                assert!(until - made <= 900 && until <= family.ends_at, "{access} lives too long");
                let newest = newest_of.entry(generation).or_insert(made);
                *newest = made.max(*newest);
            }
            for (access, generation) in
                family.access.iter().map(|access| (access, claims(access)["gen"].as_i64().expect("a number")))
            {
                let older = newest_of.iter().filter(|(before, _)| **before < generation).map(|(_, made)| *made).max();
                let made = claims(access)["iat"].as_i64().expect("a number");
                assert!(older.is_none_or(|older| older <= made), "{access} is older than its parent");
            }
        }
        self.nodes[0].clock.advance_seconds(30 * DAY + 2 * HOUR);
        for family in &self.families {
            for access in &family.access {
                // No more in a minute than an address may try.
                self.nodes[0].clock.advance_seconds(1);
                assert_eq!(me(&self.nodes[0], access).await, 401, "immortal");
            }
            self.nodes[0].clock.advance_seconds(1);
            assert_eq!(refresh(&self.nodes[0], family.tokens.last().expect("the first")).await.status, 401, "immortal");
        }
    }
}

async fn run(backend: Backend, seed: u64) {
    println!("KEYWARD_TEST_SEED={seed}");
    let first = Node::start(backend).await;
    let mut people = Vec::new();
    for owner in 0..PEOPLE {
        people.push(person(&first, &email(owner), Role::Viewer).await);
    }
    let mut nodes = vec![first];
    if backend == Backend::Postgres {
        nodes.push(nodes[0].join(nodes[0].place.clone(), |_| {}).await);
    }
    let random = StdRng::seed_from_u64(seed);
    let mut history = History { random, nodes, people, families: Vec::new(), has_role: vec![true; PEOPLE] };
    for owner in (0..PEOPLE).cycle().take(PEOPLE * SESSIONS_OF_EACH) {
        history.sign_in(owner).await;
    }
    for step in 0..STEPS {
        let what = history.random.random_range(0..100);
        let told = format!("step {step} ({what}) at {}", history.now());
        match what {
            0..30 => history.refresh_all(&told).await,
            30..60 => history.use_access(&told).await,
            60..75 => {
                let seconds = *[1, 9, 10, 60, 901, HOUR, -HOUR].choose(&mut history.random).expect("some");
                history.nodes[0].clock.advance_seconds(seconds);
            }
            75..83 => history.steal(&told).await,
            83..87 => history.close_and_open().await,
            87..90 => history.end_all(&told).await,
            90..94 => history.change_role().await,
            _ => {
                let owner = history.random.random_range(0..PEOPLE);
                history.sign_in(owner).await;
            }
        }
    }
    history.check().await;
}

fn seed() -> u64 {
    std::env::var("KEYWARD_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_12_to_s_17_over_a_random_history_on_sqlite() {
    run(Backend::Sqlite, seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_12_to_s_17_over_a_random_history_on_two_nodes() {
    run(Backend::Postgres, seed()).await;
}
