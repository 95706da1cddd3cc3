//! What gives keys to who asks: the metadata service of an instance, the agent of a container, a token service.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A service that answers as it was told and keeps what it was asked. It runs in the test's process, to its end.
#[derive(Debug)]
pub struct KeyService {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl KeyService {
    /// Starts a service. `answer` gets the first line of a request and its headers, and gives the body of the answer; `None`
    /// is answered with 404.
    ///
    /// # Panics
    /// Where no port is free.
    pub fn start(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has a port").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let service = Self { port, requests: Arc::clone(&requests) };
        thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(&connection).lines().map_while(Result::ok);
                let head = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
                let reply = match answer(&head) {
                    Some(body) => {
                        format!("200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
                    }
                    None => "404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
                };
                lock(&requests).push(head);
                // Who has gone away does not want to know.
                let _unheard = connection.write_all(format!("HTTP/1.1 {reply}").as_bytes());
            }
        });
        service
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it was asked: of each request the first line and the headers, in lines.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.requests).clone()
    }
}

fn lock(requests: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}
