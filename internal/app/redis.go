package app

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/config"
	"quantumharvest/internal/store"
)

// How long one exchange with Redis may take. Longer than a slow server's two seconds, shorter than storeTimeout.
const (
	dialTimeout  = 2 * time.Second
	replyTimeout = 4 * time.Second
)

// connect makes the client that the store and the feeds share. It does not dial: start order never matters.
func connect(c config.Redis) redis.UniversalClient {
	return store.Dial(store.ClientOptions{
		Network: c.Network, Addr: c.Addr, DB: c.DB, Username: c.Username, Password: c.Password.Reveal(), TLS: c.TLS,
		Sentinels: c.Sentinels, Primary: c.Master,
		SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword.Reveal(),
		Cluster:     c.Cluster,
		DialTimeout: dialTimeout, ReadTimeout: replyTimeout, WriteTimeout: replyTimeout,
	})
}

func storeKeys(c config.Config) store.Keys {
	return store.NewKeys(store.KeysOptions{
		Prefix: c.Keys.Prefix, Harvest: c.Keys.Harvest, MarketState: c.Keys.MarketState, Risk: c.Keys.RiskProposal,
		StreamName: c.Keys.Stream,
	})
}

// ownsProducedKeys tells whether the keys of produced market states and stops are this instance's own, like those of its
// proposals. Where only the proposals were moved (HARVEST_PREFIX), or everything but the records (KEY_PREFIX beside a
// named MARKETSTATE_PREFIX), a second instance would write what belongs to the first.
func ownsProducedKeys(c config.Config) bool {
	k := c.Keys
	return k.Harvest == k.Prefix+"harvest:proposal:" &&
		strings.HasPrefix(k.MarketState, k.Prefix) && strings.HasPrefix(k.RiskProposal, k.Prefix)
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
