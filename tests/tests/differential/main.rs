//! Plugins beside rtc-interceptor's interceptors: the same traces, and what each sends.
//!
//! Where they differ, a test of its own says by which paragraph ours is right; what no test allows is a failure.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod flexfec;
mod interval_pli;
mod nack_generator;
mod nack_responder;
mod native;
mod receiver_reports;
mod rfc8888;
mod rfc_3550;
mod sender_reports;
mod trace;
mod twcc_feedback;
mod twcc_numbers;
