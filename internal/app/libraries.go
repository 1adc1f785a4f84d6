package app

import "github.com/redis/go-redis/v9/logging"

// QuietLibraries stops libraries from writing to stderr on their own. The Redis client prints every failed dial there,
// several times a second while a server is away; all of these failures reach us as errors, and are reported once, with
// what they mean, through our own log. It changes process-wide state: main calls it once.
func QuietLibraries() { logging.Disable() }
