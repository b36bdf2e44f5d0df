//! A real nginx with `auth_request` before an upstream that answers what it was told, from Debian's package.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A running nginx; ends when dropped.
pub struct Nginx {
    pub url: String,
    process: Child,
    _folder: TempDir,
}

impl Nginx {
    /// Guards `/api/` with a node's forward-auth. The upstream is nginx itself, and answers with the headers that
    /// forward-auth gave.
    pub async fn before(keyward_url: &str, service_key: &str) -> Self {
        let program = xtask::packages::on_path("nginx").expect("nginx is installed: make test installs it");
        let folder = TempDir::new().expect("a temporary folder");
        let port = xtask::postgres::free_port().expect("a free port");
        let path = folder.path().display();
        let configuration = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {path}/a; proxy_temp_path {path}/b; fastcgi_temp_path {path}/c; uwsgi_temp_path {path}/d; scgi_temp_path {path}/e;
                server {{
                    listen 127.0.0.1:{port};
                    location /api/ {{
                        auth_request /auth;
                        auth_request_set $key_id $upstream_http_x_keyward_key_id;
                        auth_request_set $scopes $upstream_http_x_keyward_scopes;
                        add_header X-Seen-Key-Id $key_id;
                        add_header X-Seen-Scopes $scopes;
                        return_or_serve;
                    }}
                    location = /auth {{
                        internal;
                        proxy_pass {keyward_url}/v1/forward-auth?scope=invoices:read;
                        proxy_pass_request_body off;
                        proxy_set_header Content-Length \"\";
                        proxy_set_header X-Keyward-Service-Key {service_key};
                        proxy_set_header X-Original-URI $request_uri;
                        proxy_set_header X-Original-Method $request_method;
                        proxy_set_header X-Forwarded-For $remote_addr;
                        proxy_set_header X-Forwarded-Uri \"\";
                        proxy_set_header X-Forwarded-Method \"\";
                    }}
                }}
            }}"
        )
        .replace("return_or_serve;", &format!("root {path}; try_files /answer.txt =404;"));
        std::fs::write(folder.path().join("answer.txt"), "served").expect("a file");
        // Without a master process nginx serves files as whoever started it.
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration).expect("a file");
        let process = Command::new(program)
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let nginx = Self { url: format!("http://127.0.0.1:{port}"), process, _folder: folder };
        nginx.wait_until_up(port).await;
        nginx
    }

    async fn wait_until_up(&self, port: u16) {
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(10));
        for _ in 0..500 {
            tries.tick().await;
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return;
            }
        }
        panic!("nginx did not come up");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
