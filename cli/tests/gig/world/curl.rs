//! A store as whoever has no client asks it.

use serde_json::Value;

use super::Device;

/// What a store answers over HTTP, as `curl` would ask it.
pub(crate) struct Curl {
    http: reqwest::Client,
    pub(crate) store: String,
    pub(crate) token: String,
}

impl Curl {
    /// Takes the token of the `at`th store of the channel `home` from the table.
    pub(crate) async fn new(device: &Device, at: usize) -> Self {
        let http = reqwest::Client::new();
        let profile = device.profile();
        let url = format!("{}/user/me/table/home", profile["table"].as_str().unwrap());
        let answer = http.get(url).bearer_auth(profile["token"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let mounted: Value = answer.json().await.unwrap();
        let text = |name: &str| mounted["stores"][at][name].as_str().unwrap().to_owned();
        Self { http, store: text("url"), token: text("token") }
    }

    /// Returns the URL of a log at the store.
    pub(crate) fn log(&self, kind: &str, path: &str) -> String {
        format!("{}/user/me/oplog?channel=home&type={kind}&path={path}", self.store)
    }

    /// Takes the token of the store at a URL.
    pub(crate) async fn at(device: &Device, url: &str) -> Self {
        for at in 0.. {
            let curl = Self::new(device, at).await;
            if curl.store == url {
                return curl;
            }
        }
        unreachable!("the table lists the store at {url}");
    }

    /// Reads a page of a log; nothing while nobody answers.
    pub(crate) async fn page(&self, kind: &str, path: &str) -> Option<(u16, Value)> {
        let answer = self.http.get(self.log(kind, path)).bearer_auth(&self.token).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// Posts to a URL with a token, and returns the status and the answer.
    pub(crate) async fn post(&self, url: &str, token: &str, body: &Value) -> (u16, Value) {
        let answer = self.http.post(url).bearer_auth(token).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Posts operations to a log, and returns what became of each.
    pub(crate) async fn push(&self, kind: &str, path: &str, body: &Value) -> Vec<Value> {
        let (status, mut answer) = self.post(&self.log(kind, path), &self.token, body).await;
        assert_eq!(status, 200, "{answer}");
        answer["results"].as_array_mut().unwrap().drain(..).collect()
    }

    /// Reads the whole log, in order of arrival.
    pub(crate) async fn read(&self, kind: &str, path: &str) -> Vec<Value> {
        let (mut ops, mut after) = (Vec::new(), 0);
        loop {
            let url = format!("{}&after={after}", self.log(kind, path));
            let answer = self.http.get(url).bearer_auth(&self.token).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let mut page: Value = answer.json().await.unwrap();
            ops.extend(page["ops"].as_array_mut().unwrap().drain(..).map(|mut indexed| {
                after = indexed["index"].as_u64().unwrap();
                indexed["op"].take()
            }));
            if page["more"] == false {
                return ops;
            }
        }
    }
}
