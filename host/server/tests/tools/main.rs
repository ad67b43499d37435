//! `sandbar plugin` and `sandbar replay`, as their users run them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod captures;
mod check;
mod inspect;
mod order;
mod program;
mod project;
mod readme;
mod replay;
mod signing;
/// What `plugin new` begins a project with, and its test.
#[path = "../../template/plugin/src/lib.rs"]
mod template;
