//! Whether other machines can reach an endpoint.

use std::net::IpAddr;

/// Whether only this machine can reach a ZeroMQ endpoint.
pub fn is_local(endpoint: &str) -> bool {
    let Some(address) = endpoint.strip_prefix("tcp://") else {
        return endpoint.starts_with("ipc://") || endpoint.starts_with("inproc://");
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_local() {
        for local in [
            "tcp://127.0.0.1:5573",
            "tcp://127.1.2.3:0",
            "tcp://localhost:1",
            "tcp://[::1]:5573",
            "ipc:///tmp/nh",
            "inproc://x",
        ] {
            assert!(is_local(local), "{local}");
        }
        for open in [
            "tcp://*:5573",
            "tcp://0.0.0.0:5573",
            "tcp://[::]:5573",
            "tcp://eth0:5573",
            "tcp://10.0.0.7:5573",
            "tcp://localhost.example.org:1",
            "udp://127.0.0.1:1",
            "",
        ] {
            assert!(!is_local(open), "{open}");
        }
    }
}
