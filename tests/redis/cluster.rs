//! In a cluster, where all keys of one script have to share a slot.

use std::time::Duration;

use redis::cluster::ClusterClient;
use tower_backpressure::{rate::OnUnavailable, redis::SharedRate};

use crate::{
    decisions::{admitted, short, slow, spend},
    server::Server,
};

/// A cluster of one.
async fn cluster() -> Option<Server> {
    let server = Server::start_with(&["--cluster-enabled", "yes"])?;
    let mut connection = server.connection().await;
    let () = redis::cmd("CLUSTER")
        .arg("ADDSLOTSRANGE")
        .arg(0)
        .arg(16_383)
        .query_async(&mut connection)
        .await
        .unwrap();
    for _ in 0..500 {
        let info: String = redis::cmd("CLUSTER")
            .arg("INFO")
            .query_async(&mut connection)
            .await
            .unwrap();
        if info.contains("cluster_state:ok") {
            return Some(server);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the cluster does not come up");
}

#[tokio::test]
async fn several_limits_of_any_key_are_one_decision() {
    let Some(server) = cluster().await else {
        return;
    };
    let client = ClusterClient::new([server.url()]).unwrap();
    let connection = client.get_async_connection().await.unwrap();
    let rate = SharedRate::new(connection, "chat", slow(100), OnUnavailable::Reject)
        .and(slow(2).requests());
    for key in ["alice", "bob", "}", "{", "{x}y", ""] {
        let rate = rate.for_key(key);
        let _ = admitted(spend(&rate, 10).await);
        let _ = admitted(spend(&rate, 10).await);
        short(spend(&rate, 10).await);
    }
    let _ = admitted(spend(&rate, 10).await);
}
