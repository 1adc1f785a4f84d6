// Package proof asks every running part of the desk for evidence, from outside: Redis, the exporter, the publishers,
// Prometheus and Alertmanager. It believes none of them alone: what one says is held against what another shows.
//
// A pack is twelve checks. Each says what it claims, what it saw, how to see it by hand, and whether it holds.
package proof
