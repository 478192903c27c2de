"""relgrade inside other frameworks: one thin module each, which imports its framework and asks for its extra.

    relgrade.integrations.langchain    RelevanceCompressor, RelevanceCrossEncoder, relevance_runnable
    relgrade.integrations.decisions    RelevanceDecisionModel (langchain-core 1.8 or newer)
    relgrade.integrations.langgraph    grade_documents_node, decide_to_generate, route_on_relevance
    relgrade.integrations.llamaindex   RelevancePostprocessor
    relgrade.integrations.haystack     RelgradeRanker, which lives in haystack_integrations
    relgrade.integrations.mcp          create_server

All of them hand texts to `screening.Screen`, which answers with a `screened.Screened`, and copy what the framework gave
them; where a grader comes from is the business of `source`. The modules of a framework know nothing of each other.
"""
