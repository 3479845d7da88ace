"""Operations in the graphs of SavedModels, for the tests of exports."""


def random_operations(signature):
    """Kinds of random operations in the graph of a signature, a set."""
    graph = signature.graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    for function in graph.library.function:
        kinds |= {node.op for node in function.node_def}
    return {kind for kind in kinds if "Random" in kind or "Rng" in kind}
