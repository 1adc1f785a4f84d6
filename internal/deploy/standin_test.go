//go:build unix

package deploy_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/kernel"
)

// standIn is the earlier service that this test binary plays where it is started as one: a publisher that writes whole hashes,
// without schema_version or heartbeat and not more often than its gate lets it, or the exporter that shows them.
func standIn(what string) {
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_HOST") + ":" + os.Getenv("REDIS_PORT")})
	ctx := context.Background()
	if what == "exporter" {
		standInExporter(ctx, rdb)
		return
	}
	interval, _ := strconv.ParseFloat(os.Getenv("PUBLISH_INTERVAL_SEC"), 64)
	maxAge, _ := strconv.ParseFloat(os.Getenv("MAX_PUBLISH_AGE_SEC"), 64)
	last := map[string]time.Time{}
	shown := map[string]kernel.Proposal{}
	for {
		fmt.Println("=== Harvest Proposal Publish Cycle ===")
		for sym := range strings.SplitSeq(os.Getenv("SYMBOLS"), ",") {
			standInPublish(ctx, rdb, sym, time.Duration(maxAge*float64(time.Second)), last, shown)
		}
		time.Sleep(time.Duration(interval * float64(time.Second)))
	}
}

func standInPublish(ctx context.Context, rdb *redis.Client, sym string, maxAge time.Duration, last map[string]time.Time, shown map[string]kernel.Proposal) {
	pos := rdb.HGetAll(ctx, "quantum:state:positions:"+sym).Val()
	market := rdb.HGetAll(ctx, "quantum:marketstate:"+sym).Val()
	risk := rdb.HGetAll(ctx, "quantum:risk:proposal:"+sym).Val()
	if len(pos) == 0 || len(market) == 0 {
		return // its hash stays where it is
	}
	number := func(h map[string]string, name string) float64 { v, _ := strconv.ParseFloat(h[name], 64); return v }
	text := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	entry, current := number(pos, "entry_price"), number(pos, "current_price")
	now := time.Now()
	age := now.Sub(time.Unix(int64(number(pos, "opened_at_epoch")), 0)).Seconds()
	p, err := kernel.Propose(
		kernel.Position{
			Side: kernel.Long, Entry: entry, Current: current, Peak: current, Trough: current, AgeSec: age, UnrealizedPnL: current - entry,
		},
		kernel.MarketState{Sigma: number(market, "sigma"), TS: number(market, "ts"), PMR: number(market, "p_mr"), PChop: number(market, "p_chop")},
		number(risk, "stop_dist_pct"), kernel.DefaultHarvestParams())
	if err != nil {
		fmt.Println(sym, err)
		return
	}
	was, before := shown[sym]
	if before && was.Action == p.Action && was.NewStop == p.NewStop && was.KillScore-p.KillScore < 0.001 && p.KillScore-was.KillScore < 0.001 &&
		now.Sub(last[sym]) < maxAge {
		return
	}
	stop := "None"
	if p.NewStop != 0 {
		stop = text(p.NewStop)
	}
	fields := map[string]any{
		"harvest_action": string(p.Action), "new_sl_proposed": stop, "R_net": text(p.RNet), "risk_unit": text(p.RiskUnit), "cost_est": text(p.CostEst),
		"kill_score": text(p.KillScore), "reason_codes": strings.Join(p.Reasons.Codes(), ","),
		"k_regime_flip": text(p.K.RegimeFlip), "k_sigma_spike": text(p.K.SigmaSpike), "k_ts_drop": text(p.K.TSDrop), "k_age_penalty": text(p.K.AgePenalty),
		"sigma": market["sigma"], "ts": market["ts"], "p_trend": "0.0", "p_mr": market["p_mr"], "p_chop": market["p_chop"],
		"computed_at_utc": now.UTC().Format("2006-01-02T15:04:05.000000"), "last_update_epoch": now.Unix(),
		"position_side": "LONG", "position_age_sec": text(age), "position_current_price": text(current), "position_entry_price": text(entry),
		"position_unrealized_pnl": text(current - entry),
	}
	if os.Getenv("PYTHONSTANDINWRONG") == sym {
		fields["risk_unit"] = "77"
	}
	if rdb.HSet(ctx, "quantum:harvest:proposal:"+sym, fields).Err() == nil {
		last[sym], shown[sym] = now, p
	}
}

func standInExporter(ctx context.Context, rdb *redis.Client) {
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		keys := rdb.Keys(ctx, "quantum:harvest:proposal:*").Val()
		for _, k := range keys {
			h, sym := rdb.HGetAll(ctx, k).Val(), strings.TrimPrefix(k, "quantum:harvest:proposal:")
			for metric, field := range map[string]string{
				"kill_score": "kill_score", "k_regime_flip": "k_regime_flip", "k_sigma_spike": "k_sigma_spike", "k_ts_drop": "k_ts_drop",
				"k_age_penalty": "k_age_penalty", "r_net": "R_net", "last_update_epoch": "last_update_epoch",
			} {
				value := h[field]
				if value == "" {
					value = "0.0" // the earlier exporter made that up
				}
				fmt.Fprintf(w, "quantum_harvest_%s{symbol=%q} %s\n", metric, sym, value)
			}
			fmt.Fprintf(w, "quantum_harvest_action{symbol=%q,action=%q} 1\n", sym, h["harvest_action"])
		}
		fmt.Fprintln(w, "quantum_harvest_exporter_cache_age_seconds 1")
	})
	_ = http.ListenAndServe("127.0.0.1:"+os.Getenv("METRICS_PORT"), nil)
}
