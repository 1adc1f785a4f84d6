// Package drill pulls the plugs of the fault table on a private copy of the system: its own redis-server, publishers,
// exporter, Prometheus and Alertmanager, on free loopback ports and in a folder of its own. It never touches a system of
// the operator.
//
// Every fault is looked at from outside: the alerts as Prometheus holds them, what the receivers get, the proposals in
// Redis and the page of the exporter. A fault passes where it was seen by the alert it should be seen by and within its
// bound, where what must stay true stayed true, and where everything cleared after the repair.
package drill
