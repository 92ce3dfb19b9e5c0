//! The daemon as a process: its API, its parts, who leads, and what it withstands.

mod asked;
mod browser;
mod checked;
mod demo;
mod extremes;
mod fuzzed;
mod held_back;
mod idle;
mod kept;
mod operated;
mod page;
mod planned;
mod prometheus;
mod rules;
mod served;
mod steps;
mod strangers;
mod tls;
mod turned;
mod webhook;
mod withstands;
