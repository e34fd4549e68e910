//! `squall metrics`: the figures of all containers as OpenMetrics text, printed or served.

mod address;
mod exposition;
mod server;

use clap::Args;
use squall::{Error, Problem, Result, Squall};

use crate::print;
use address::Address;

#[derive(Debug, Args)]
#[command(
    after_help = "Without --listen the text is printed once. With --listen it is served over HTTP at /metrics until SIGTERM or Ctrl-C: ADDR is a path \
                  (with a slash in it) of a Unix socket, which only its owner can use, or a loopback address with its port, such as \
                  127.0.0.1:9200 or [::1]:9200, which every user of this host can. A port of 0 is any free one; the address is printed. Each request reads the figures \
                  anew. 64 clients at a time, for 10 seconds each."
)]
pub struct Metrics {
    /// Serve over HTTP on a Unix socket or a loopback address
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Serve on an address that other hosts can reach: without any protection
    #[arg(long, requires = "listen")]
    pub allow_remote: bool,
}

pub fn run(squall: Squall, arguments: &Metrics) -> Result<i32> {
    let Some(text) = &arguments.listen else {
        print::raw(format_args!("{}", exposition::of(&squall)?));
        return Ok(0);
    };
    let address = Address::parse(text, arguments.allow_remote)
        .map_err(|reason| Error::invalid("command line", vec![Problem { field: "--listen".to_owned(), reason }]))?;
    server::serve(&address, move || exposition::of(&squall))?;
    Ok(0)
}
