pub mod app;
pub mod auth;
pub mod config;
pub mod domain;
pub mod error;
pub mod live;
pub mod service;
pub mod storage;
