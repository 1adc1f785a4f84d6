// Package house keeps the rules of the tree as tests: who may import whom, how files and packages are kept, and that
// what the documents name exists. It has no code of its own. A failure says which rule it is and why the rule is there.
package house
