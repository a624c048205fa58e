module github.com/hvswitch/hvswitch/examples

go 1.26

require github.com/hvswitch/hvswitch v0.0.0

replace github.com/hvswitch/hvswitch => ../
