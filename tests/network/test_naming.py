import gc

from torch import nn

from nnmagic.network.naming import Naming


def test_a_layer_is_named_as_in_named_modules():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    network = Naming().network_of(net)

    assert network.name_of(net, None, "") == ""
    assert network.name_of(net[1][0], net[1], "1") == "1.0"


def test_a_call_belongs_to_the_largest_named_network_that_holds_it():
    inner = nn.Sequential(nn.Linear(2, 2))
    outer = nn.Sequential(inner, nn.ReLU())
    naming = Naming(lambda: [("inner", inner), ("outer", outer)])

    network = naming.network_of(inner[0])

    assert network.label == "outer"
    assert network.name_of(inner[0], None, "") == "0.0"


def test_a_loose_layer_is_its_own_network_by_its_name_or_its_class():
    loose, named = nn.ReLU(), nn.ReLU()
    naming = Naming(label_of=lambda module: "act" if module is named else None)

    assert naming.network_of(loose).label == "ReLU"
    assert naming.network_of(named).label == "act"


def test_a_second_network_of_a_label_gets_a_number():
    layers = [nn.ReLU() for _ in range(3)]
    naming = Naming()

    assert [naming.network_of(layer).label for layer in layers] == ["ReLU", "ReLU#2", "ReLU#3"]
    assert naming.network_of(layers[1]).label == "ReLU#2"


def test_only_the_named_networks_are_followed_where_that_is_asked_for():
    net, other = nn.Sequential(nn.ReLU()), nn.ReLU()
    naming = Naming(lambda: [("net", net)], only=True)

    assert naming.network_of(other) is None
    assert naming.network_of(net[0]).label == "net"


def test_a_layer_made_in_a_forward_is_called_by_its_class():
    net = nn.Sequential(nn.ReLU())
    network = Naming().network_of(net)

    assert network.name_of(nn.Softmax(dim=1), net, "") == "(Softmax)"
    assert network.name_of(nn.Softmax(dim=1), net[0], "0") == "0.(Softmax)"


def test_a_layer_added_during_the_run_is_found_in_its_parent():
    net = nn.Sequential(nn.ReLU())
    network = Naming().network_of(net)
    net.append(nn.Tanh())

    assert network.name_of(net[1], net, "") == "1"


def test_naming_keeps_no_network_alive():
    import weakref

    net = nn.Sequential(nn.ReLU())
    naming = Naming()
    naming.network_of(net)
    reference = weakref.ref(net)

    del net
    gc.collect()

    assert reference() is None


def test_a_network_at_the_address_of_a_dead_one_is_a_new_one():
    naming = Naming()

    labels = {naming.network_of(nn.ReLU()).index for _ in range(20)}

    assert labels == set(range(20))
