//! The description of the machine.

use std::fs;
use std::thread;

use super::Result;

/// Returns a sentence about the CPU, the kernel and the load.
pub fn describe() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown CPU");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let cores = thread::available_parallelism()?;
    Ok(format!(
        "{model}, {cores} cores, Linux {}, load {load} at the start. Server, database and generator share \
         the machine and use loopback.",
        kernel.trim()
    ))
}
