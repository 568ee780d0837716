use std::{io, net::SocketAddr};

use axum::{
    Router,
    serve::{Listener, ListenerExt},
};
use tokio::net::TcpListener;

/// Serves until the runtime ends; says where, which for port 0 is to be found out.
pub async fn serve(
    address: SocketAddr,
    app: impl FnOnce(SocketAddr) -> Router,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?.tap_io(|connection| {
        // Or a token waits up to 40 ms for the client to acknowledge the one before (RFC 896, and delayed acknowledgements).
        if let Err(error) = connection.set_nodelay(true) {
            eprintln!("tokens may come late: {error}");
        }
    });
    let address = listener.local_addr()?;
    let app = app(address);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// On a port of its own on loopback.
pub async fn serve_on_loopback(app: Router) -> io::Result<SocketAddr> {
    serve(([127, 0, 0, 1], 0).into(), |_| app).await
}
