// Package lease decides which symbols of a prefix this process writes for. The symbols are divided into shards; of every
// shard one publisher at a time holds the lease, and the server checks it with every write.
//
// A Keeper is pure: it is told the moment and the answers of the server, and says what to ask next. It promises:
//
//   - A shard whose holder died is taken over within three lease intervals, as long as the server answers.
//   - The shards are spread over the living publishers as evenly as whole shards allow; nothing moves without need.
//   - What was not confirmed within its time is not held, whatever the server may say later.
package lease
