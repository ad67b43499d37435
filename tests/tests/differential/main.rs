//! Plugins beside rtc-interceptor's interceptors: the same traces, and what each sends as RTCP.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod flexfec;
mod nack_generator;
mod receiver_reports;
mod trace;
mod twcc_feedback;
