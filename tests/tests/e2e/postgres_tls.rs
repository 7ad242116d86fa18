//! The line to a database may be encrypted, and the server's certificate and name checked, by parameters of the address.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::time::Duration;

use saga_commands::authority::Authority;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stack::Stack;
use testkit::eventually;
use uuid::Uuid;

async fn connect(url: &str) -> Result<PgConnection, String> {
    let options = chassis::database::options(url).map_err(|error| error.to_string())?;
    PgConnection::connect_with(&options).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_verify_full_takes_no_server_but_the_one_it_names() {
    let folder = std::env::temp_dir().join(format!("waybill-postgres-tls-{}", Uuid::now_v7()));
    let authority = Authority::open(&folder).unwrap();
    Authority::open(&folder.join("other")).unwrap();
    let files = authority.certify("postgres", &["127.0.0.1".to_owned()]).unwrap();
    let stack = Stack::start(stack::Options::for_tests()).await.unwrap();
    stack.postgres.create_database("orders").await.unwrap();

    // As an administrator switches it on.
    let data = stack.postgres.data_dir().unwrap();
    let owner = data.metadata().unwrap();
    for (file, name) in files.iter().zip(["server.crt", "server.key"]) {
        let there = data.join(name);
        std::fs::copy(file, &there).unwrap();
        std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&there, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let mut administrator = connect(&stack.postgres.superuser_url("postgres")).await.unwrap();
    for statement in ["alter system set ssl = on", "select pg_reload_conf()"] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut administrator).await.unwrap();
    }

    let address =
        |host: &str, parameters: &str| format!("{}?{parameters}", stack.postgres.tcp_url("orders").replace("127.0.0.1", host));
    let ours = folder.join("ca.pem").display().to_string();
    let other = folder.join("other/ca.pem").display().to_string();
    let checked = address("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ours}"));
    let mut connection = eventually(Duration::from_secs(20), || connect(&checked)).await;
    let encrypted = sqlx::query_scalar::<_, bool>("select ssl from pg_stat_ssl where pid = pg_backend_pid()");
    assert!(encrypted.fetch_one(&mut connection).await.unwrap());

    for (why, host, parameters, taken) in [
        ("another authority", "127.0.0.1", format!("sslmode=verify-full&sslrootcert={other}"), false),
        ("another name", "localhost", format!("sslmode=verify-full&sslrootcert={ours}"), false),
        ("another name, which is not asked about", "localhost", format!("sslmode=verify-ca&sslrootcert={ours}"), true),
    ] {
        let connected = connect(&address(host, &parameters)).await;
        assert_eq!(connected.is_ok(), taken, "{why}: {:?}", connected.err());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
