//! What CI servers are given: components, actions, examples, run as a CI server runs them.

mod gitlab;
