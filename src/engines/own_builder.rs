//! A buildx builder that is made where docker's own is all there is.

use std::str::FromStr;

use thiserror::Error;

use crate::model::Platform;

/// How a builder is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnBuilder {
    /// The image of BuildKit, instead of buildx's own choice.
    pub image: Option<String>,
    /// Machines that build some of the platforms.
    pub nodes: Vec<Node>,
    /// The image that registers emulators for other platforms; none are when `None`.
    pub emulators: Option<String>,
    /// Whether it stays for the next run.
    pub keep: bool,
}

/// Another machine of a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub platforms: Vec<Platform>,
    /// A docker context, or the address of a docker engine or BuildKit.
    pub endpoint: String,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("write it as `linux/arm64=ssh://user@host`, with commas between platforms")]
pub struct NodeError;

impl FromStr for Node {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Node, NodeError> {
        let (platforms, endpoint) = text.split_once('=').ok_or(NodeError)?;
        let platforms = platforms.split(',').map(str::parse).collect::<Result<Vec<Platform>, _>>().map_err(|_| NodeError)?;
        // What begins with a dash would be taken for an option.
        if endpoint.is_empty()
            || endpoint.starts_with('-')
            || endpoint.chars().any(|character| character.is_whitespace() || character.is_control())
        {
            return Err(NodeError);
        }
        Ok(Node { platforms, endpoint: endpoint.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_platforms_and_an_endpoint() {
        let node: Node = "linux/arm64,linux/arm/v7=tcp://10.0.0.7:2376?a=b".parse().expect("a node");
        assert_eq!(node.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/arm64", "linux/arm/v7"]);
        assert_eq!(node.endpoint, "tcp://10.0.0.7:2376?a=b");
        for text in ["", "linux/arm64", "linux/arm64=", "=tcp://a", "linux/arm64=--append", "linux/arm64=a b", "nonsense=tcp://a"] {
            assert_eq!(text.parse::<Node>(), Err(NodeError), "{text}");
        }
    }
}
