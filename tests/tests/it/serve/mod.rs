//! The daemon as a process: its API, its parts, who leads, and what it withstands.

mod browser;
mod demo;
mod page;
mod rules;
mod served;
mod steps;
mod strangers;
mod webhook;
mod withstands;
